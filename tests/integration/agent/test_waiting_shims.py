"""Between acceptance and Assignment a shim waits in the run directory: nothing depends on it or is executed."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from banksman.v1 import session_pb2 as pb

from runner_agent.shim import protocol
from tests.fakes.control_plane import FakeAttempt, FakeControlPlane, command
from tests.integration.agent.conftest import StartAgent
from tests.integration.agent.program import fork_server_of
from tests.waiting import wait_for


def directory_of(state_dir: Path, attempt: FakeAttempt) -> Path:
    return state_dir / "runs" / f"{attempt.key[0]}.1"


async def accepted(plane: FakeControlPlane, state_dir: Path, touched: Path) -> FakeAttempt:
    """An attempt whose shim is ready, and whose Assignment was lost."""
    plane.lose[">assignment"] = 1
    plane.heartbeat_s = 60.0  # no verdict heals it meanwhile
    attempt = await plane.offer(command("touch", str(touched)))
    await plane.until(lambda: attempt.state == "STARTING", "its acceptance")
    control = directory_of(state_dir, attempt) / protocol.CONTROL_SOCKET
    await asyncio.to_thread(wait_for, control.exists, what="a shim waits")
    return attempt


async def expect_it_runs(plane: FakeControlPlane, attempt: FakeAttempt, touched: Path) -> None:
    await plane.until(lambda: attempt.released, "its release")
    assert attempt.exit is not None
    assert (attempt.exit.outcome, attempt.starts) == (pb.EXIT_OUTCOME_ENDED_WELL, 1)
    assert touched.exists()


async def test_only_the_assignment_starts_it(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path, tmp_path: Path
) -> None:
    touched = tmp_path / "touched"
    await start_agent()
    attempt = await accepted(plane, state_dir, touched)
    assert not (directory_of(state_dir, attempt) / "identity").exists()
    assert not touched.exists()
    await plane.say(assignment=attempt.assignment())
    await expect_it_runs(plane, attempt, touched)


async def test_a_withdrawn_offer_takes_its_shim_along(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path, tmp_path: Path
) -> None:
    touched = tmp_path / "touched"
    await start_agent()
    attempt = await accepted(plane, state_dir, touched)
    run_id, epoch = attempt.key
    await plane.say(withdraw=pb.Withdraw(key=pb.AttemptKey(run_id=run_id, lease_epoch=epoch)))
    gone = lambda: not directory_of(state_dir, attempt).exists()  # noqa: E731
    await asyncio.to_thread(wait_for, gone, what="its directory is gone")
    assert not touched.exists()
    assert not list((state_dir / "workspaces").iterdir())


async def test_a_new_agent_finds_it_accepted(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path, tmp_path: Path
) -> None:
    touched = tmp_path / "touched"
    agent = await start_agent()
    attempt = await accepted(plane, state_dir, touched)
    await agent.kill()
    await plane.until(lambda: not plane.connected, "the end of the session")
    plane.heartbeat_s = 0.2
    await start_agent()
    assert [entry.phase for entry in plane.hellos[-1].inventory] == [pb.HELD_PHASE_ACCEPTED]
    await expect_it_runs(plane, attempt, touched)


async def test_the_fork_server_above_it_may_die(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path, tmp_path: Path
) -> None:
    touched = tmp_path / "touched"
    await start_agent()
    attempt = await accepted(plane, state_dir, touched)
    os.kill(fork_server_of(state_dir), signal.SIGKILL)
    await plane.say(assignment=attempt.assignment())
    await expect_it_runs(plane, attempt, touched)
