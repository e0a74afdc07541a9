"""The rules of the host with real fork servers, shims and agents: what starts, what ends, what is believed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from banksman.v1 import run_pb2

from runner_agent.execution.run_directory import Standing, StateDirectory
from runner_agent.execution.shim_link import ExitRecord, ForkServer, Outcome, Reason, ShimRefused, Started, build_id
from runner_agent.shim import files
from tests.failpoints.control import Failpoints
from tests.fakes.control_plane import FakeControlPlane, command
from tests.integration.agent.program import Agent
from tests.integration.shim import trees
from tests.integration.shim.host import Host, Run, end_fork_server, is_alive, open_host, python, shell, step
from tests.scenarios.journal import JOURNAL
from tests.scenarios.program import REPOSITORY, environment
from tests.waiting import wait_for

PATIENCE_S = 15.0
# What a step lists: what it was given to hold.
HELD = "import os\nfor fd in range(3, 256):\n try: print(os.readlink(f'/proc/self/fd/{fd}'))\n except OSError: pass"


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with open_host(tmp_path / "state", use_cgroups=False) as made:
        yield made


@asynccontextmanager
async def wrapped(path: Path, module: str, **environment: str) -> AsyncIterator[Host]:
    """A host whose fork server is the real one inside `module`; the agent's side adopts it."""
    state = StateDirectory.open(path)
    bootstrap = f"import sys; sys.path.append({str(REPOSITORY)!r}); from {module} import main; main()"
    argv = [sys.executable, "-I", "-S", "-c", bootstrap, str(state.path), build_id(), "no-cgroups"]
    starter = await asyncio.create_subprocess_exec(*argv, env={"LANG": "C.UTF-8", **environment}, cwd="/")
    assert await starter.wait() == 0
    made = Host(state, await ForkServer.connect_or_spawn(state.path, use_cgroups=False))
    try:
        yield made
    finally:
        for link in made.links:
            link.close()
        end_fork_server(made.fork_server.pid)
        state.close()


@asynccontextmanager
async def pointed(tmp_path: Path) -> AsyncIterator[tuple[Host, Failpoints]]:
    """A host with named points in its fork server and shims."""
    points = Failpoints(tmp_path / "points")
    async with wrapped(tmp_path / "state", "tests.failpoints.fork_server", **points.environment()) as made:
        yield made, points


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


async def soon(run: Run, otherwise: str) -> ExitRecord:
    """The exit record; `otherwise` is what it means when it does not come."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await run.end()
    except TimeoutError:
        words = f"{otherwise} after {PATIENCE_S:g} s"
    raise AssertionError(words)


async def test_every_program_comes_from_the_tree_of_its_test(host: Host) -> None:
    """Else a bug in this tree would be looked for in another one."""
    code = (
        "import banksman.v1, control_plane, runner_agent, tests; print(control_plane.__file__, runner_agent.__file__)"
    )
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env=environment(host.state.path), cwd="/", stdout=asyncio.subprocess.PIPE
    )
    said, _ = await program.communicate()
    rooms = [str(REPOSITORY / room / "__init__.py") for room in ("control_plane", "runner_agent")]
    assert said.decode().split() == rooms
    starter = Path(f"/proc/{host.fork_server.pid}/cmdline").read_bytes()
    assert f"{str(REPOSITORY)!r}".encode() in starter


# -- before anything is executed


async def test_nothing_is_executed_before_it_is_written_down_who_it_is(tmp_path: Path) -> None:
    async with pointed(tmp_path) as (host, points):
        points.arm("shim.identity.before_fsync:pause")
        touched = tmp_path / "touched"
        run = await host.start(step("touch", str(touched)))
        hit = await asyncio.to_thread(points.wait, "shim.identity.before_fsync")
        with pytest.raises(TimeoutError):
            wait_for(touched.exists, what="it is executed too early", timeout_s=0.5)
        points.go(hit)
        assert (await run.end()).outcome is Outcome.ENDED_WELL
        assert touched.exists()


async def test_nothing_is_executed_behind_the_loss_deadline(tmp_path: Path) -> None:
    """It passes while the child waits at the barrier: the shim looks at it last."""
    async with pointed(tmp_path) as (host, points):
        points.arm("shim.identity.before_fsync:pause")
        touched, deadline = tmp_path / "touched", boottime_ns() + 500_000_000
        run = await host.start(step("touch", str(touched)), loss_deadline_boottime_ns=deadline)
        hit = await asyncio.to_thread(points.wait, "shim.identity.before_fsync")
        await asyncio.to_thread(wait_for, lambda: boottime_ns() > deadline, what="the deadline passes")
        points.go(hit)
        record = await run.end()
        assert (record.outcome, touched.exists()) == (Outcome.NOT_STARTED, False), "executed after the loss deadline"


async def test_nothing_starts_on_a_tombstone(host: Host) -> None:
    directory = host.state.accept("run", 3, {})
    files.write_once(str(directory), "tombstone", b"{}")
    with pytest.raises(ShimRefused, match="tombstone"):
        await host.fork_server.start(directory, host.attempt(step("true"), run_id="run", epoch=3))


async def test_a_child_holds_nothing_but_its_streams_in_any_step(host: Host) -> None:
    """Above all not the lock, which would make it look as if its shim lived."""
    record, run = await host.run(python(HELD), python(HELD))
    assert record.outcome is Outcome.ENDED_WELL
    assert run.log() == b"", "a child holds what is its shim's"


# -- ends


@pytest.mark.parametrize("program", ["DOUBLE_FORKED", "HIDDEN"])
async def test_a_stop_ends_the_whole_tree(host: Host, program: str) -> None:
    run = await host.start(python(getattr(trees, program)), grace_s=0.1)
    await run.bytes_below(len(b"ready\n"))
    run.link.stop(Reason.USER_CANCEL, signal.SIGTERM, 0.1)
    record = await soon(run, "the tree is not dead")
    assert record.kill_confirmed
    assert record.survivors_killed >= 2


async def test_a_run_ends_although_somebody_holds_its_pipe(host: Host) -> None:
    run = await host.start(python(trees.LEAVES_A_HOLDER))
    record = await soon(run, "its end waits for whoever holds its pipe")
    assert (record.exit_code, record.tree_empty, run.log()) == (7, True, b"ready\n")


async def test_the_exit_record_comes_behind_every_byte_that_it_counts(tmp_path: Path) -> None:
    """By the journal of what was asked of the disk: a power cut behind any line finds either all or no end."""
    async with wrapped(tmp_path / "state", "tests.scenarios.journal") as host:
        record, run = await host.run(shell("head -c 200000 /dev/zero"), shell("echo last"))
        assert record.final_offset == len(run.log()) == 200_005
        lines = (host.state.path / JOURNAL).read_text().splitlines()
    unsynced: set[str] = set()
    for line in lines:
        word, name = line.split()
        if word == "write":
            unsynced.add(name)
        elif word == "sync":
            unsynced.discard(name)
        elif name == "exit.tmp":
            assert not {left for left in unsynced if left.startswith(("spool", "exit"))}, "an end before its log"
        elif name.startswith("identity"):
            assert name not in unsynced, "an identity that a power cut forgets"
    assert "rename exit.tmp" in lines
    assert any(line.startswith("write spool.") for line in lines)


# -- what a later agent believes


async def test_a_namesake_of_a_dead_child_is_neither_killed_nor_taken_for_it(host: Host) -> None:
    """The number of its process belongs to somebody else by now: the start time tells them apart."""
    innocent = await asyncio.create_subprocess_exec("sleep", "1000")
    try:
        born = files.start_time(innocent.pid)
        assert born is not None
        directory = host.state.accept("run", 3, {})
        identity = {
            "version": 1, "run_id": "run", "epoch": 3, "pid": innocent.pid, "start_time": born - 1,
            "boot_id": files.boot_id(), "cookie": "of-the-dead", "shim_pid": innocent.pid, "guard_pid": 1,
        }  # fmt: skip
        files.write_once(str(directory), "identity", json.dumps(identity).encode())
        (entry,) = await asyncio.to_thread(host.state.scan)
        assert is_alive(innocent.pid), "somebody else's process was killed"
        assert entry.standing is Standing.EXITED, "somebody else's process was taken for it"
        assert entry.record is not None
        assert entry.record.outcome is Outcome.SHIM_DIED
    finally:
        if innocent.returncode is None:
            innocent.kill()
        await innocent.wait()


async def test_a_reboot_is_seen_by_the_boot_that_the_attempt_has_written_down(host: Host) -> None:
    directory = host.state.accept("run", 3, {})
    identity = {"version": 1, "run_id": "run", "epoch": 3, "pid": os.getpid(), "boot_id": "another", "cookie": "c"}
    files.write_once(str(directory), "identity", json.dumps(identity).encode())
    record = (await asyncio.to_thread(host.state.settle, "run", 3)).record
    assert record is not None
    assert (record.outcome, record.tree_empty) == (Outcome.HOST_REBOOTED, True), "a reboot was not seen"


async def test_whoever_looks_at_a_live_attempt_leaves_it_alone(host: Host) -> None:
    run = await host.start(step("sleep", "1000"))
    started = await run.until(Started)
    entry = await asyncio.to_thread(host.state.settle, run.run_id, run.epoch)
    assert entry.standing is Standing.LIVE, "called dead while its shim lives"
    assert not (run.directory / "tombstone").exists()
    assert is_alive(started.pid)  # type: ignore[union-attr]


async def test_an_agent_that_comes_back_says_first_what_it_has(tmp_path: Path) -> None:
    """Whatever it does not list at once would be taken for gone, and its log for ended."""
    async with playing(FakeControlPlane(), tmp_path) as (plane, agent):
        attempt = await plane.offer(command("sleep", "1000"))
        await plane.until(lambda: attempt.starts, "it runs")
        await agent.kill()
        await agent.start()
        await plane.until(lambda: len(plane.hellos) == 2, "it comes back")
        listed = [(entry.key.run_id, entry.key.lease_epoch) for entry in plane.hellos[-1].inventory]
        assert listed == [attempt.key], "an inventory that lacks what is there"


# -- the loss deadline


@asynccontextmanager
async def playing(plane: FakeControlPlane, tmp_path: Path) -> AsyncIterator[tuple[Any, Agent]]:
    """A played control plane, and a real agent in session with it."""
    token = tmp_path / "token"
    token.write_text("join-1\n")
    async with plane.serve():
        agent = Agent(tmp_path / "s", plane.url, "--join-token-file", str(token), "--name", "r-1")
        try:
            await agent.start()
            await plane.until_connected()
            yield plane, agent
        finally:
            await agent.end_everything()


class LateAcks(FakeControlPlane):
    """Answers one heartbeat, later than it was sent, and no other."""

    late_s = 4.0
    lost_after_s = 6.0

    def __init__(self) -> None:
        super().__init__()
        self.heartbeat_s = 30.0
        self.heard_s = 0.0

    async def say(self, **message: Any) -> None:
        if "heartbeat_ack" in message and not message["heartbeat_ack"].verdicts:
            return
        if "heartbeat_ack" in message:
            if self.heard_s:
                return
            self.heard_s = time.time()
            await asyncio.sleep(self.late_s)
        await super().say(**message)


async def test_a_loss_deadline_counts_from_what_was_sent(tmp_path: Path) -> None:
    """A word that was answered late was heard long ago: the deadline may not move by the delay."""
    async with playing(LateAcks(), tmp_path) as (plane, _):
        attempt = await plane.offer(command("sleep", "1000"), lost_after_s=plane.lost_after_s)
        await plane.until(lambda: attempt.starts, "it runs")
        plane.heartbeat_s = 1.0
        await plane.cut()
        await plane.until(lambda: attempt.exit is not None, "its end")
        assert attempt.exit is not None
        assert attempt.exit.stopped_by == run_pb2.REASON_RUNNER_LOST
        signalled_s = attempt.exit.signalled_at.ToNanoseconds() / 1e9
        assert signalled_s - plane.heard_s < plane.lost_after_s + 3.0, "the answer's delay was added"
