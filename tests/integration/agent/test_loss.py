"""The loss deadline: held by the shim, moved by what the server has acked, and final."""

from __future__ import annotations

from pathlib import Path

from banksman.v1 import run_pb2 as run
from banksman.v1 import session_pb2 as pb

from tests.fakes.control_plane import FakeControlPlane, command
from tests.integration.agent.conftest import StartAgent
from tests.waiting import wait_for

UNTIL_GO = ("sh", "-c", "echo up; until [ -e go ]; do sleep 0.02; done; echo down")


async def test_a_run_stops_itself_when_its_agent_is_dead_and_the_server_silent(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    agent = await start_agent()
    attempt = await plane.offer(command(*UNTIL_GO), lost_after_s=2.0)
    await plane.until(lambda: attempt.log, "its first line")
    await agent.kill()
    wait_for(lambda: (state_dir / "runs" / f"{attempt.key[0]}.1" / "exit").exists(), what="its end by the deadline")
    await start_agent()
    await plane.until(lambda: attempt.released, "its release")
    assert attempt.exit is not None
    assert attempt.exit.stopped_by == run.REASON_RUNNER_LOST
    assert attempt.exit.tree_empty


async def test_acked_heartbeats_keep_a_run_alive_past_it(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    await start_agent()
    attempt = await plane.offer(command(*UNTIL_GO), lost_after_s=1.5)
    await plane.until(lambda: attempt.log, "its first line")
    first = len(plane.heartbeats)
    await plane.until(lambda: len(plane.heartbeats) > first + 15, "three seconds of heartbeats")
    (state_dir / "workspaces" / f"{attempt.key[0]}.1" / "work" / "go").touch()
    await plane.until(lambda: attempt.released, "its release")
    assert attempt.exit is not None
    assert attempt.exit.outcome == pb.EXIT_OUTCOME_ENDED_WELL
    assert attempt.renewals > 0


async def test_after_a_restart_the_new_agent_goes_on_renewing(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    agent = await start_agent()
    attempt = await plane.offer(command(*UNTIL_GO), lost_after_s=8.0)
    await plane.until(lambda: attempt.log, "its first line")
    await agent.kill()
    await start_agent()
    first = len(plane.heartbeats)
    await plane.until(lambda: len(plane.heartbeats) > first + 42, "more than eight seconds of heartbeats")
    (state_dir / "workspaces" / f"{attempt.key[0]}.1" / "work" / "go").touch()
    await plane.until(lambda: attempt.released, "its release")
    assert attempt.exit is not None
    assert attempt.exit.outcome == pb.EXIT_OUTCOME_ENDED_WELL


async def test_a_verdict_that_does_not_renew_lets_it_run_out(plane: FakeControlPlane, start_agent: StartAgent) -> None:
    await start_agent()
    attempt = await plane.offer(command(*UNTIL_GO), lost_after_s=2.0)
    await plane.until(lambda: attempt.log, "its first line")
    plane.unknown.add(attempt.key)
    await plane.until(lambda: plane.phases == [pb.HELD_PHASE_EXITED], "its end")
    (entry,) = plane.heartbeats[-1].held
    assert entry.exit.stopped_by == run.REASON_RUNNER_LOST
