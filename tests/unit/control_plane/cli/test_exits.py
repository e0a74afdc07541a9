"""A run's end as an exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from banksman.v1 import run_pb2

from control_plane.cli.exits import BY_STATE, MEANINGS, ExitCode, of_run
from tests.unit.control_plane.cli.console import banksman

TERMINAL = {
    "SUCCEEDED": 0,
    "FAILED": 1,
    "SKIPPED": 6,
    "CANCELLED": 7,
    "TIMED_OUT": 8,
    "LOST": 9,
    "EXPIRED": 9,
}


def run_in(state: str, **fields: int) -> run_pb2.Run:
    return run_pb2.Run(id="0199", state=run_pb2.RunState.Value(f"RUN_STATE_{state}"), **fields)  # type: ignore[arg-type]


def test_the_table_knows_every_terminal_state() -> None:
    states = {name.removeprefix("RUN_STATE_") for name in run_pb2.RunState.DESCRIPTOR.values_by_name}
    active = {"QUEUED", "ASSIGNED", "RUNNING", "CANCELLING", "UNSPECIFIED"}
    assert set(BY_STATE) == set(TERMINAL) == states - active


@pytest.mark.parametrize(("state", "code"), TERMINAL.items())
def test_wait_ends_with_the_states_code(state: str, code: int) -> None:
    assert banksman("run", "wait", "@last", script=[("WaitRun", run_in(state))]).exit_code == code


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (run_in("FAILED", exit_code=42), 42),
        (run_in("FAILED", signal=9), 137),
        (run_in("SUCCEEDED", exit_code=3), 3),
        (run_in("SUCCEEDED", exit_code=0), 0),
        (run_in("FAILED", exit_code=0), 1),
        (run_in("FAILED"), 1),
        (run_in("CANCELLED", exit_code=0), 7),
        (run_in("TIMED_OUT", signal=15), 8),
        (run_in("LOST", exit_code=0), 9),
    ],
)
def test_propagation_never_turns_a_bad_end_into_0(run: run_pb2.Run, code: int) -> None:
    assert of_run(run, propagate=True) == code


def test_the_waits_own_timeout_is_124() -> None:
    running = run_pb2.Run(id="0199", state=run_pb2.RUN_STATE_RUNNING, is_active=True)
    outcome = banksman(
        "run", "wait", "@last", "--wait-timeout", "0s", script=[("WaitRun", running), ("GetRun", running)]
    )
    assert outcome.exit_code == 124
    assert "RUNNING" in outcome.stderr


def test_a_skipped_run_is_no_success() -> None:
    skipped = run_in("SKIPPED")
    assert banksman("task", "run", "t", script=[("RunTask", skipped)]).exit_code == 6
    assert banksman("task", "run", "t", "--follow", script=[("RunTask", skipped)]).exit_code == 6


def test_every_code_is_documented() -> None:
    assert set(MEANINGS) == set(ExitCode)
    told = banksman("help", "exit-codes").stdout
    for code in ExitCode:
        assert f"{int(code):>4}  {MEANINGS[code]}" in told


def test_the_documented_exit_codes_are_those_of_the_program() -> None:
    page = (Path(__file__).resolve().parents[4] / "docs" / "cli.md").read_text(encoding="utf-8").replace("`", "")
    for code, meaning in MEANINGS.items():
        assert f"| {int(code)} | {meaning} |" in page
