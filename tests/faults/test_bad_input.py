"""Thousands of messages to every method: allowed statuses, no incident, no row changed by a refusal."""

from __future__ import annotations

import asyncio
import pathlib
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fakes.server import Server
from tests.faults.figures import Recorder
from tests.integration.server.asking import METHODS, Asker
from tests.integration.server.nearly import requests

CALLS_A_METHOD = 96
FEWEST = 5_000
ROUNDS = 3


def test_every_method_is_asked_whatever_a_client_might_send(tmp_path: pathlib.Path, figures: Recorder) -> None:
    with asyncio.Runner() as loop:
        asker = Asker(loop, Server(tmp_path / "state"))
        try:
            for _ in range(ROUNDS):
                for name in sorted(METHODS):
                    ask(asker, name)
        finally:
            asker.close()
    tally = asker.tally
    spread = f"{len(METHODS)} methods, {tally.accepted} calls accepted"
    figures.record("bad input, calls", tally.calls, goal=f">= {FEWEST}", ok=tally.calls >= FEWEST, spread=spread)
    bad = len(tally.violations)
    figures.record("bad input, violations", bad, goal="0", ok=bad == 0, note="; ".join(tally.violations)[:2000])
    assert tally.violations == []


def ask(asker: Asker, name: str) -> None:
    # What was deleted is there again at each beginning; waiting costs time, so there is less of it.
    most = CALLS_A_METHOD // ROUNDS if not METHODS[name].server_streaming else 20

    @settings(
        max_examples=most, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(request=requests(METHODS[name].input_type), as_member=st.booleans())
    def any_message(request: Any, as_member: bool) -> None:
        asker.ask(name, request, as_member=as_member)

    asker.begin()
    any_message()
