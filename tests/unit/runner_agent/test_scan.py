"""The scan at the agent's start: dead shims side by side, and never longer than it may take before Hello."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from runner_agent.execution import run_directory
from runner_agent.execution.inventory import found_in
from runner_agent.execution.run_directory import Standing, StateDirectory
from runner_agent.shim.messages import ExitRecord

MANY = 6
PATIENCE_S = 20.0


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    made = StateDirectory.open(tmp_path / "s")
    for epoch in range(1, MANY + 1):
        made.accept("run", epoch, {"slots": epoch})
    return made


def test_what_dead_shims_have_left_is_ended_side_by_side(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(MANY, timeout=PATIENCE_S)

    def settle(directory: str, run_id: str, epoch: int) -> tuple[Standing, ExitRecord | None]:
        together.wait()
        return Standing.ACCEPTED, None

    monkeypatch.setattr(run_directory.aftermath, "settle", settle)
    entries = state.scan()
    assert [(entry.epoch, entry.standing) for entry in entries] == [
        (epoch, Standing.ACCEPTED) for epoch in range(1, MANY + 1)
    ]


def test_what_takes_too_long_is_looked_at_again_later(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def settle(directory: str, run_id: str, epoch: int) -> tuple[Standing, ExitRecord | None]:
        if epoch == 2:
            over.wait(PATIENCE_S)
        return Standing.ACCEPTED, None

    monkeypatch.setattr(run_directory.aftermath, "settle", settle)
    monkeypatch.setattr(run_directory, "SCAN_S", 0.05)
    try:
        entries = state.scan()
    finally:
        over.set()
    late = [entry for entry in entries if entry.epoch == 2]
    assert [(entry.standing, entry.details) for entry in late] == [(Standing.LIVE, {"slots": 2})]
    found, _ = found_in(late, "boot")
    assert [(item.live, item.held.slots) for item in found] == [(True, 2)], "its actor goes on with it"


def test_one_that_breaks_is_set_apart_and_the_others_are_found(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settle(directory: str, run_id: str, epoch: int) -> tuple[Standing, ExitRecord | None]:
        if epoch == 2:
            raise OSError("the disk says no")
        return Standing.ACCEPTED, None

    monkeypatch.setattr(run_directory.aftermath, "settle", settle)
    standings = {entry.epoch: entry.standing for entry in state.scan()}
    assert standings.pop(2) is Standing.QUARANTINED
    assert set(standings.values()) == {Standing.ACCEPTED}


def test_a_shim_without_a_start_is_waited_for_while_its_disk_is_slow(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told as one that lives, its attempt would end as not started when it has left, and not be assigned again."""
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: 0.5 * len(slept), sleep=slept.append)

    def settle(directory: str, run_id: str, epoch: int) -> tuple[Standing, ExitRecord | None]:
        return (Standing.ACCEPTED if clock.monotonic() > 3.0 else Standing.LIVE), None

    monkeypatch.setattr(run_directory.aftermath, "settle", settle)
    monkeypatch.setattr(run_directory, "time", clock)
    entry = state._scan_patiently(state.path_of("run", 1))
    assert entry is not None
    assert entry.standing is Standing.ACCEPTED
