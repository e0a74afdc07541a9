"""An operator's way out of trouble, with real processes: what is shown leads to the command, and the command works."""

from __future__ import annotations

import json
import pathlib

from banksman.v1 import run_pb2, runner_pb2, spec_pb2

from tests.scenarios.children import STUBBORN, locked, python
from tests.scenarios.house import Agent, House
from tests.scenarios.program import end_all
from tests.scenarios.specs import seconds, spec
from tests.waiting import wait_for

HOST = runner_pb2.GetRunnerRequest(runner="r1")


def runs_for_ever(house: House, name: str, **words: object) -> tuple[run_pb2.Run, pathlib.Path]:
    """A run that holds a lock while it lives and obeys only SIGKILL."""
    lock, arrived = house.root / f"{name}.lock", house.fifo(f"{name}.arrived")
    run = house.submit(spec(python(STUBBORN, lock, arrived.path), grace=seconds(0.2), **words))
    arrived.receive()
    house.wait_state(run.id, run_pb2.RUN_STATE_RUNNING)
    return run, lock


def shown(house: House, *words: str) -> dict[str, object]:
    """What the CLI says as JSON."""
    done = house.cli(*words, "-o", "json")
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, object] = json.loads(done.stdout)
    return found


def away(agent: Agent) -> None:
    wait_for(lambda: (runner := agent.runner()) and not runner.connected, what="the runner counts as away")


def test_a_run_that_would_wait_for_ever_is_freed_by_the_command_that_it_names(house: House) -> None:
    agent = house.agent("r1")
    run, lock = runs_for_ever(house, "never", loss=spec_pb2.LossPolicy(never=True))
    agent.kill_dash_nine()
    away(agent)
    told = shown(house, "run", "get", run.id)
    (attempt,) = told["attempts"]  # type: ignore[misc]
    assert (attempt["connectivity"], "given_up_at" in attempt) == ("CONNECTIVITY_DISCONNECTED", False)
    commands = [remedy["command"] for remedy in told["remedies"]]  # type: ignore[union-attr]
    assert commands[1] == "banksman runner mark-lost r1"
    assert "banksman runner mark-lost r1\n" in house.cli("run", "get", run.id).stdout.decode()
    marked = house.cli(*commands[1].split()[1:])
    assert marked.returncode == 0, marked.stderr.decode()
    lost = house.get(run.id)
    assert (lost.state, lost.reason) == (run_pb2.RUN_STATE_LOST, run_pb2.REASON_MARKED_LOST)
    assert lost.attempts[0].end_proof == run_pb2.END_PROOF_NOT_PROVEN
    assert locked(lock)
    agent.connect()
    ended = house.wait(run.id)
    assert (ended.state, ended.kill_confirmed) == (run_pb2.RUN_STATE_LOST, True)
    assert not locked(lock)


def test_a_forced_cancel_ends_the_run_now_and_its_processes_when_their_host_is_back(house: House) -> None:
    agent = house.agent("r1", slots=1)
    run, lock = runs_for_ever(house, "forced")
    agent.kill_dash_nine()
    away(agent)
    done = house.cli("run", "cancel", run.id, "--force")
    assert done.returncode == 0
    assert "kill NOT confirmed" in done.stderr.decode()
    assert "its slot there is free only when the host has ended it" in done.stderr.decode()
    assert locked(lock)
    following = house.submit(spec(python("print('next')")))
    agent.connect()
    assert house.wait(following.id).state == run_pb2.RUN_STATE_SUCCEEDED
    assert not locked(lock)
    ended = house.wait(run.id)
    assert (ended.state, ended.kill_confirmed) == (run_pb2.RUN_STATE_CANCELLED, True)


def test_a_run_directory_that_cannot_be_read_is_told_and_stops_nobody(house: House) -> None:
    agent = house.agent("r1")
    run, _ = runs_for_ever(house, "broken")
    agent.kill_dash_nine()
    end_all(house.root / "r0")
    (directory,) = (house.root / "r0" / "runs").glob(f"{run.id}.*")
    (directory / "accept").write_bytes(b"\xff{")
    (directory / "identity").write_bytes(b"\xfe")
    agent.connect()
    (attempt,) = house.doors.runners.GetRunner(HOST).attempts
    assert attempt.run_id == run.id
    assert attempt.message
    told = house.cli("runner", "get", "r1").stdout.decode()
    assert f"quarantined\t{run.id} RUNNING: {attempt.message}\n" in told
    assert house.get(run.id).attempts[0].connectivity == run_pb2.CONNECTIVITY_SET_ASIDE
    assert house.execute(spec(python("print('well')"))).state == run_pb2.RUN_STATE_SUCCEEDED
    assert "quarantined the run directory" in house.cli("run", "get", run.id).stdout.decode()
    house.cancel(run.id, force=True)
    assert house.wait(run.id, settled=False).state == run_pb2.RUN_STATE_CANCELLED
