"""Whatever a client sends: an allowed status, never an incident, and not a row changed by a refusal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from banksman.v1 import secret_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane.domain.errors import ErrorCode, NotFound
from control_plane.lifecycle import secrets
from control_plane.storage import reads
from tests.fakes.server import Server
from tests.integration.server.asking import METHODS, Asker
from tests.integration.server.nearly import requests

EXAMPLES = 12


@pytest.fixture(scope="module")
def asker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    with asyncio.Runner() as loop:
        made = Asker(loop, Server(tmp_path_factory.mktemp("fuzz") / "state"))
        yield made
        made.close()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_any_message_is_answered_in_order(asker: Asker, name: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(request=requests(METHODS[name].input_type), as_member=st.booleans())
    def any_message(request: Any, as_member: bool) -> None:
        asker.ask(name, request, as_member=as_member)
        assert asker.tally.violations == []

    asker.begin()
    asker.tally.violations.clear()
    any_message()


def test_an_incident_and_a_changed_row_would_be_noticed(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(connection: Any, **words: Any) -> None:
        raise KeyError("a bug")

    async def halfway(house: Any, *_: Any, **__: Any) -> None:
        change = "UPDATE projects SET description = description || 'x'"
        await house.database.write(lambda connection: connection.exec_driver_sql(change).rowcount)
        raise NotFound(ErrorCode.SECRET_NOT_FOUND)

    asker.begin()
    asker.tally.violations.clear()
    monkeypatch.setattr(reads, "list_secrets", broken)
    monkeypatch.setattr(secrets, "delete", halfway)
    asker.ask("SecretService/ListSecrets", secret_pb2.ListSecretsRequest())
    asker.ask("SecretService/DeleteSecret", secret_pb2.DeleteSecretRequest(name="x"))
    internal, incident, changed = asker.tally.violations
    assert "answers INTERNAL" in internal
    assert "leaves an incident" in incident
    assert "changed the database" in changed
