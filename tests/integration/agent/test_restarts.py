"""The agent dies, hands over, drains or leaves; what runs goes on, and nothing is lost or started twice."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from banksman.v1 import log_pb2 as log
from banksman.v1 import run_pb2 as run
from banksman.v1 import session_pb2 as pb

from runner_agent.execution.journal import terminate_shim
from tests.fakes.control_plane import FakeAttempt, FakeControlPlane, command
from tests.integration.agent.conftest import StartAgent
from tests.integration.agent.program import fork_server_of, processes_of
from tests.waiting import wait_for

WAITING = "i=0; while [ ! -e go ]; do echo line $i; i=$((i+1)); sleep 0.01; done; echo the end; exit 7"


def let_go(state_dir: Path, attempt: FakeAttempt) -> None:
    (state_dir / "workspaces" / f"{attempt.key[0]}.1" / "work" / "go").touch()


def is_whole(log: bytes) -> bool:
    """Every line once and in order, then the end."""
    lines = log.decode().splitlines()
    return lines[-1] == "the end" and lines[:-1] == [f"line {i}" for i in range(len(lines) - 1)]


async def test_after_sigkill_a_new_agent_finds_the_run_its_log_and_its_exit_code(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    agent = await start_agent()
    attempt = await plane.offer(command("sh", "-c", WAITING))
    await plane.until(lambda: len(attempt.log) > 200, "some of its log")
    pid = attempt.pid
    await agent.kill()
    await plane.until(lambda: not plane.connected, "the end of the session")
    os.kill(pid, 0)
    await start_agent()
    assert [entry.phase for entry in plane.hellos[-1].inventory] in ([pb.HELD_PHASE_STARTING], [pb.HELD_PHASE_RUNNING])
    seen = len(attempt.log)
    await plane.until(lambda: len(attempt.log) > seen + 100, "more of its log")
    let_go(state_dir, attempt)
    await plane.until(lambda: attempt.released, "its release")
    assert attempt.exit is not None
    assert (attempt.exit.exit_code, attempt.exit.tree_empty) == (7, True)
    assert is_whole(bytes(attempt.log))


async def test_a_run_that_ends_while_no_agent_lives_is_told_by_the_next_one(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    agent = await start_agent()
    attempt = await plane.offer(command("sh", "-c", WAITING))
    await plane.until(lambda: attempt.state == "RUNNING", "its start")
    await agent.kill()
    let_go(state_dir, attempt)
    wait_for(lambda: (state_dir / "runs" / f"{attempt.key[0]}.1" / "exit").exists(), what="its exit record")
    await start_agent()
    assert plane.hellos[-1].inventory[0].exit.exit_code == 7
    await plane.until(lambda: attempt.released, "its release")
    assert is_whole(bytes(attempt.log))


async def test_an_acceptance_survives_the_agent_and_becomes_a_run(
    plane: FakeControlPlane, start_agent: StartAgent
) -> None:
    agent = await start_agent()
    plane.lose[">assignment"] = 1
    plane.heartbeat_s = 60.0
    attempt = await plane.offer(command("echo", "started once"))
    await plane.until(lambda: attempt.state == "STARTING", "its acceptance")
    await agent.kill()
    await start_agent()
    await plane.until(lambda: attempt.released, "its release")
    assert plane.hellos[-1].inventory[0].phase == pb.HELD_PHASE_ACCEPTED
    assert bytes(attempt.log) == b"started once\n"


async def test_drained_by_sigterm_it_takes_no_more_finishes_what_runs_and_exits_0(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    agent = await start_agent("--slots", "2")
    attempt = await plane.offer(command("sh", "-c", WAITING))
    await plane.until(lambda: attempt.state == "RUNNING", "its start")
    agent.signal(signal.SIGTERM)
    await plane.until(lambda: plane.drain_notices, "its notice")
    refused = await plane.offer(command("true"))
    await plane.until(lambda: refused.rejected is not None, "a refusal")
    assert refused.rejected is not None
    assert refused.rejected.reject_reason == pb.REJECT_REASON_DRAINING
    let_go(state_dir, attempt)
    assert await agent.wait() == 0
    assert attempt.released
    assert is_whole(bytes(attempt.log))


async def test_an_idle_agent_leaves_at_once(plane: FakeControlPlane, start_agent: StartAgent) -> None:
    agent = await start_agent()
    agent.signal(signal.SIGINT)
    assert await agent.wait() == 0
    wait_for(lambda: not processes_of(agent.state_dir), what="the fork server's end")


async def test_sigterm_twice_stops_runs_with_their_grace(plane: FakeControlPlane, start_agent: StartAgent) -> None:
    agent = await start_agent()
    attempt = await plane.offer(
        command("sh", "-c", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.02; done")
    )
    await plane.until(lambda: attempt.log, "its trap")
    agent.signal(signal.SIGTERM)
    await plane.until(lambda: plane.drain_notices, "its notice")
    agent.signal(signal.SIGTERM)
    assert await agent.wait() == 0
    assert attempt.exit is not None
    assert (attempt.exit.stopped_by, attempt.exit.exit_code) == (run.REASON_RUNNER_SHUTDOWN, 5)
    assert attempt.text(log.LOG_KIND_STDOUT) == b"up\nbye\n"


async def test_sigterm_three_times_kills(plane: FakeControlPlane, start_agent: StartAgent) -> None:
    agent = await start_agent()
    attempt = await plane.offer(command("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.02; done"))
    await plane.until(lambda: attempt.log, "its trap")
    for _ in range(3):
        agent.signal(signal.SIGTERM)
        notices = plane.drain_notices
        if not notices:
            await plane.until(lambda: plane.drain_notices, "its notice")
    await plane.until(lambda: attempt.exit is not None or run.STOP_PHASE_SIGNALLED in attempt.stop_phases, "a stop")
    agent.signal(signal.SIGTERM)
    assert await agent.wait() == 0
    assert attempt.exit is not None
    assert (attempt.exit.stopped_by, attempt.exit.signal) == (run.REASON_RUNNER_SHUTDOWN, signal.SIGKILL)


async def test_a_handover_leaves_the_runs_to_the_next_agent(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    first = await start_agent()
    attempt = await plane.offer(command("sh", "-c", WAITING))
    await plane.until(lambda: len(attempt.log) > 100, "some of its log")
    await start_agent("--handover")
    assert await first.wait() == 0
    let_go(state_dir, attempt)
    await plane.until(lambda: attempt.released, "its release")
    assert is_whole(bytes(attempt.log))


async def test_a_second_agent_on_one_state_directory_says_so_and_leaves(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    await start_agent()
    second = await start_agent(connected=False)
    assert await second.wait() == 6
    assert f"{state_dir} is used by another agent" in second.log
    assert "--handover" in second.log


async def test_a_run_directory_that_cannot_be_read_is_told_as_quarantined(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    agent = await start_agent()
    await agent.kill()
    broken = state_dir / "runs" / "run-broken.1"
    broken.mkdir()
    (broken / "accept").write_text("not json")
    await start_agent()
    ((key, phase),) = [(entry.key.run_id, entry.phase) for entry in plane.hellos[-1].inventory]
    assert (key, phase) == ("run-broken", pb.HELD_PHASE_QUARANTINED)
    attempt = await plane.offer(command("true"))
    await plane.until(lambda: attempt.released, "another run")


async def test_a_shim_can_be_stopped_without_speaking_its_protocol(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    await start_agent()
    attempt = await plane.offer(command("sleep", "600"))
    await plane.until(lambda: attempt.state == "RUNNING", "its start")
    assert terminate_shim(state_dir / "runs" / f"{attempt.key[0]}.1")
    await plane.until(lambda: attempt.released, "its release")
    assert attempt.exit is not None
    assert attempt.exit.tree_empty
    assert attempt.exit.stopped_by == run.REASON_RUNNER_SHUTDOWN


async def test_a_dead_fork_server_is_replaced_and_what_runs_goes_on(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    await start_agent("--slots", "2")
    attempt = await plane.offer(command("sh", "-c", WAITING))
    await plane.until(lambda: attempt.log, "its first line")
    guard = fork_server_of(state_dir)
    os.kill(guard, signal.SIGKILL)
    wait_for(lambda: guard not in processes_of(state_dir), what="the fork server's death")
    another = await plane.offer(command("echo", "under a new one"))
    await plane.until(lambda: another.released or another.rejected, "another run's end")
    assert bytes(another.log) == b"under a new one\n"
    let_go(state_dir, attempt)
    await plane.until(lambda: attempt.released, "its release")
    assert is_whole(bytes(attempt.log))


async def test_a_dead_shim_is_told_with_what_was_spooled_and_its_tree_is_gone(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    await start_agent()
    attempt = await plane.offer(command("sh", "-c", "echo up; sleep 600 & wait"))
    await plane.until(lambda: attempt.log, "its first line")
    identity = json.loads((state_dir / "runs" / f"{attempt.key[0]}.1" / "identity").read_text())
    os.kill(identity["shim_pid"], signal.SIGKILL)
    await plane.until(lambda: attempt.released, "its release")
    assert attempt.exit is not None
    assert attempt.exit.outcome == pb.EXIT_OUTCOME_SHIM_DIED
    assert attempt.exit.tree_empty
    assert not attempt.exit.log_counted
    assert bytes(attempt.log) == b"up\n"
    assert not Path(f"/proc/{attempt.pid}").exists()
