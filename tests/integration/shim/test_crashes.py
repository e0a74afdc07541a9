"""What survives SIGKILL of the agent, of the shim and of the fork server, and what is said about it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import pytest

from runner_agent.execution.run_directory import Standing, StateDirectory, StateDirectoryBusy
from runner_agent.execution.shim_link import (
    AttemptStart,
    Exited,
    ForkServer,
    Outcome,
    Reason,
    ShimGone,
    ShimLink,
    ShimRefused,
    Started,
    StepEnded,
    UnknownShimVersion,
)
from runner_agent.shim import attempt_files, codec, files, protocol, tree
from runner_agent.shim.cgroups import own_cgroup
from tests.failpoints.control import Failpoints
from tests.failpoints.inside import arm_fork_servers
from tests.integration.shim import trees
from tests.integration.shim.host import Host, Run, end_fork_server, is_alive, python, shell, step
from tests.integration.shim.killable import Agent
from tests.waiting import wait_for

SECOND_NS = 1_000_000_000


def _boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _start(*steps: object, **changes: object) -> AttemptStart:
    values = {"run_id": "run", "epoch": 3, "steps": steps, "cookie": os.urandom(8).hex(), **changes}
    return AttemptStart(**values)  # type: ignore[arg-type]


async def _attach(state: StateDirectory) -> Run:
    path = state.path_of("run", 3)
    link = await ShimLink.attach(path, run_id="run", epoch=3)
    return Run(path, "run", 3, link, "")


async def test_the_agent_is_killed_between_two_steps_and_nothing_is_disturbed(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    os.mkfifo(first)
    os.mkfifo(second)
    lines = b"".join(b"line %d \xff\r\n" % i for i in range(2000))
    (tmp_path / "lines").write_bytes(lines)
    start = _start(shell(f"cat {tmp_path}/lines; read x < {first}; cat {tmp_path}/lines"),
                   shell(f"read x < {second}; cat {tmp_path}/lines; exit 4"))  # fmt: skip
    agent = Agent(tmp_path / "state", start)
    try:
        agent.kill()
        first.write_text("go\n")  # the first step goes on without an agent, and the second begins
        second.write_text("go\n")
        state = StateDirectory.open(tmp_path / "state")
        entry = wait_for(lambda: (e := state.scan()[0]).standing is Standing.EXITED and e, what="the exit record")
        record = entry.record
        assert (record.outcome, record.exit_code, len(record.steps)) == (Outcome.ENDED_BADLY, 4, 2)
        assert Run(entry.path, "run", 3, None, "").log() == lines * 3  # type: ignore[arg-type]
        assert (record.final_offset, record.tree_empty) == (3 * len(lines), True)
        state.release("run", 3)
        assert state.scan() == ()
        state.close()
    finally:
        end_fork_server(agent.fork_server)


async def test_a_new_agent_finds_the_live_run_and_hears_everything_from_the_first_event(tmp_path: Path) -> None:
    start = _start(shell("echo one"), shell("echo two; sleep 1000"))
    agent = Agent(tmp_path / "state", start)
    try:
        wait_for(lambda: (tmp_path / "state/runs/run.3/identity.1").exists(), what="the second step")
        agent.kill()
        state = StateDirectory.open(tmp_path / "state")
        assert [(entry.standing, entry.run_id, entry.epoch) for entry in state.scan()] == [(Standing.LIVE, "run", 3)]
        adopted = await ForkServer.connect_or_spawn(state.path)
        assert adopted.pid == agent.fork_server
        run = await _attach(state)
        assert run.link.shim_pid == agent.shim
        await run.until(Started, step=1)
        assert [type(event) for event in run.events if isinstance(event, Started | StepEnded)] == [
            Started, StepEnded, Started,
        ]  # fmt: skip
        run.link.stop(Reason.USER_CANCEL, signal.SIGTERM, 5)
        record = await run.end()
        assert (record.stopped_by, record.signal) == (Reason.USER_CANCEL, signal.SIGTERM)
        state.close()
    finally:
        end_fork_server(agent.fork_server)


async def test_the_loss_deadline_fires_without_an_agent(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "state", _start(python(trees.DOUBLE_FORKED), grace_s=0.2,
                                             loss_deadline_boottime_ns=_boottime_ns() + 3_600 * SECOND_NS))  # fmt: skip
    try:
        agent.says("Started(")
        # What it is told waits in its socket until nobody lives who could tell it more, however slow this host is.
        os.kill(agent.shim, signal.SIGSTOP)
        try:
            agent.hears(_boottime_ns() + SECOND_NS // 2)
            agent.says("renewed")
            agent.kill()
        finally:
            os.kill(agent.shim, signal.SIGCONT)
        state = StateDirectory.open(tmp_path / "state")
        entry = wait_for(lambda: (e := state.scan()[0]).standing is Standing.EXITED and e, what="the exit record")
        assert entry.record.stopped_by is Reason.RUNNER_LOST
        assert entry.record.kill_confirmed
        assert not is_alive(agent.shim) or wait_for(lambda: not is_alive(agent.shim), what="the shim leaves")
        state.close()
    finally:
        end_fork_server(agent.fork_server)


async def test_attach_refuses_another_attempt_and_another_version(host: Host) -> None:
    run = await host.start(step("sleep", "1000"), run_id="run", epoch=3)
    with pytest.raises(ShimRefused, match="another attempt"):
        await ShimLink.attach(run.directory, run_id="run", epoch=4)
    connection = protocol.connect(str(run.directory), protocol.CONTROL_SOCKET)
    connection.setblocking(True)
    body: codec.JsonObject = {"version": 99, "oldest": 99, "run_id": "run", "epoch": 3}
    connection.sendall(protocol.encode_frame("attach", body))
    frames = protocol.FrameBuffer()
    frames.feed(connection.recv(65536))
    answer = frames.next_frame()
    assert answer is not None
    assert (answer["type"], answer["code"]) == ("refused", "VERSION")
    connection.close()
    assert issubclass(UnknownShimVersion, ShimRefused)
    link = await ShimLink.attach(run.directory, run_id="run", epoch=3)
    host.links.append(link)


@pytest.mark.parametrize("program", ["IGNORES_SIGTERM", "DOUBLE_FORKED", "HIDDEN"])
async def test_a_dead_shims_tree_is_killed_and_proven_empty_by_its_guard(any_host: Host, program: str) -> None:
    run = await any_host.start(python(getattr(trees, program)), run_id="run", epoch=3)
    await run.bytes_below(len(b"ready\n"))
    members = tree.children(run.link.shim_pid)
    os.kill(run.link.shim_pid, signal.SIGKILL)
    await run.until(ShimGone)
    entry = any_host.state.settle("run", 3, patience_s=10)
    record = entry.record
    assert record is not None
    assert (entry.standing, record.outcome, record.reason) == (Standing.EXITED, Outcome.SHIM_DIED, Reason.SHIM_DIED)
    assert (record.tree_empty, record.final_offset) == (True, len(b"ready\n"))
    assert [pid for pid in members if is_alive(pid)] == []
    assert (run.directory / "tombstone").exists()
    assert any_host.state.settle("run", 3).record == record
    any_host.state.release("run", 3)


async def test_an_unguarded_shims_death_is_not_proven_without_a_cgroup(any_host: Host) -> None:
    run = await any_host.start(python(trees.DOUBLE_FORKED), run_id="run", epoch=3)
    await run.bytes_below(len(b"ready\n"))
    os.kill(any_host.fork_server.pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(any_host.fork_server.pid), what="the fork server's end")
    assert not await any_host.fork_server.is_alive()
    used_cgroup = bool(json.loads((run.directory / "identity").read_text())["cgroup"])
    any_host.fork_server = await ForkServer.connect_or_spawn(any_host.state.path)
    assert is_alive(run.link.shim_pid)  # runs on, unguarded
    other, _ = await any_host.run(shell("echo new attempts have a new fork server"))
    assert other.exit_code == 0
    cookie = run.cookie
    os.kill(run.link.shim_pid, signal.SIGKILL)
    await run.until(ShimGone)
    record = any_host.state.settle("run", 3, patience_s=10).record
    assert record is not None
    assert record.outcome is Outcome.SHIM_DIED
    assert record.tree_empty is used_cgroup
    wait_for(lambda: not [pid for pid in tree.cookie_holders(cookie) if is_alive(pid)], what="the cookie sweep")


async def test_a_full_disk_only_defers_what_is_said_about_a_dead_shim(host: Host) -> None:
    run = await host.start(step("sleep", "1000"), run_id="run", epoch=3)
    await run.until(Started)
    (run.directory / "tombstone.tmp").symlink_to("/dev/full")
    os.kill(run.link.shim_pid, signal.SIGKILL)
    await run.until(ShimGone)
    os.close(wait_for(lambda: files.try_lock(str(run.directory / "lock")), what="the lock is free"))
    assert host.state.settle("run", 3).standing is Standing.LIVE
    assert [entry.standing for entry in host.state.scan()] == [Standing.LIVE]
    (run.directory / "tombstone.tmp").unlink()
    record = host.state.settle("run", 3).record
    assert record is not None
    assert (record.outcome, record.tree_empty) == (Outcome.SHIM_DIED, True)


async def test_a_tombstone_prevents_a_start(host: Host) -> None:
    directory = host.state.accept("run", 3, {})
    files.write_once(str(directory), "tombstone", b"{}")
    with pytest.raises(ShimRefused, match="tombstone"):
        await host.fork_server.start(directory, host.attempt(step("true"), run_id="run", epoch=3))
    assert not (directory / "identity").exists()
    record = host.state.settle("run", 3, patience_s=10).record
    assert record is not None
    assert (record.outcome, record.tree_empty) == (Outcome.NOT_STARTED, True)


async def test_an_attempt_starts_once(host: Host) -> None:
    run = await host.start(step("sleep", "1000"), run_id="run", epoch=3)
    with pytest.raises(ShimRefused, match="another process holds"):
        await host.fork_server.start(run.directory, host.attempt(step("true"), run_id="run", epoch=3))
    assert host.state.settle("run", 3).standing is Standing.LIVE
    run.link.stop(Reason.USER_CANCEL, signal.SIGTERM, 5)
    await run.end()
    lock = wait_for(lambda: files.try_lock(str(run.directory / "lock")), what="the shim leaves")
    os.close(lock)
    with pytest.raises(ShimRefused, match="was started before"):
        await host.fork_server.start(run.directory, host.attempt(step("true"), run_id="run", epoch=3))


@pytest.mark.parametrize(
    ("point", "standing", "outcome"),
    [
        ("shim.locked", Standing.ACCEPTED, None),
        ("shim.prepared", Standing.ACCEPTED, None),
        ("shim.child.forked", Standing.ACCEPTED, None),
        ("shim.identity.stored", Standing.EXITED, Outcome.SHIM_DIED),
        ("shim.child.released", Standing.EXITED, Outcome.SHIM_DIED),
        ("shim.exit.before_write", Standing.EXITED, Outcome.SHIM_DIED),
        ("shim.exit.stored", Standing.EXITED, Outcome.ENDED_WELL),
    ],
)
async def test_a_shim_may_die_at_any_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, standing: Standing, outcome: Outcome | None
) -> None:
    points = Failpoints(tmp_path / "points")
    arm_fork_servers(monkeypatch, points)
    points.arm(f"{point}:kill")
    state = StateDirectory.open(tmp_path / "state")
    fork_server = await ForkServer.connect_or_spawn(state.path)
    touched = tmp_path / "touched"
    try:
        start = _start(step("touch", str(touched)))
        directory = state.accept("run", 3, {"slots": 2})
        try:
            link = await fork_server.start(directory, start)
        except ConnectionError:
            assert point in ("shim.locked", "shim.prepared")
        else:
            events = [event async for event in link.events()]
            assert isinstance(events[-1], ShimGone)
            link.close()
        assert [hit.point for hit in points.hits()] == [point]
        entry = await asyncio.to_thread(state.settle, "run", 3, patience_s=10)
        assert (entry.standing, entry.details) == (standing, {"slots": 2})
        if outcome is not None:
            assert entry.record is not None
            assert (entry.record.outcome, entry.record.tree_empty) == (outcome, True)
        if outcome in (None, Outcome.NOT_STARTED) or point == "shim.identity.stored":
            assert not touched.exists()
        if outcome is None:  # the Assignment comes again
            await fork_server.retire()
            again = await ForkServer.connect_or_spawn(state.path)
            link = await again.start(directory, start)
            assert isinstance([event async for event in link.events()][-1], Exited)
            link.close()
            end_fork_server(again.pid)
    finally:
        end_fork_server(fork_server.pid)
        state.close()


async def test_a_start_that_never_comes_leaves_the_attempt_accepted(host: Host) -> None:
    directory = host.state.accept("run", 3, {})
    connection = protocol.connect(str(host.state.path), protocol.FORK_SERVER_SOCKET)
    connection.setblocking(True)
    body: codec.JsonObject = {**protocol.versions(), "run_directory": directory.name}
    connection.sendall(protocol.encode_frame("fork", body))
    frames = protocol.FrameBuffer()
    while frames.next_frame() is None:
        frames.feed(connection.recv(65536))
    assert host.state.settle("run", 3).standing is Standing.LIVE  # the shim waits, and holds the lock
    connection.close()
    wait_for(lambda: host.state.settle("run", 3).standing is Standing.ACCEPTED, what="the shim leaves")


async def test_an_upgrade_retires_the_old_fork_server_with_its_last_shim(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await host.start(step("sleep", "1000"))
    old = host.fork_server.pid
    monkeypatch.setattr("runner_agent.execution.shim_link.build_id", lambda: "1-another")
    host.fork_server = await ForkServer.connect_or_spawn(host.state.path)
    assert host.fork_server.pid != old
    assert is_alive(old)
    record, _ = await host.run(shell("echo under the new one"))
    assert record.exit_code == 0
    run.link.stop(Reason.USER_CANCEL, signal.SIGTERM, 5)
    await run.end()
    wait_for(lambda: not is_alive(old), what="the old fork server leaves")


async def test_two_agents_starting_at_once_share_one_fork_server(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    first, second = await asyncio.gather(*(ForkServer.connect_or_spawn(tmp_path) for _ in range(2)))
    try:
        assert first.pid == second.pid
    finally:
        end_fork_server(first.pid)


async def test_a_long_state_directory_works(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 40) / "state"
    state = StateDirectory.open(path)
    fork_server = await ForkServer.connect_or_spawn(state.path)
    try:
        program = (
            "import os,socket;s=socket.socket(socket.AF_UNIX);s.connect(os.environ['BANKSMAN_SOCKET']);"
            's.sendall(b\'{"type":"result","value":1}\\n\');print(s.recv(99))'
        )
        start = _start(python(program))
        link = await fork_server.start(state.accept("run", 3, {}), start)
        events = [event async for event in link.events()]
        link.close()
        assert isinstance(events[-1], Exited)
        assert events[-1].record.result_json == "1"
        short = attempt_files.short_name(str(state.path), "run.3")
        state.release("run", 3)
        assert not Path(f"/tmp/bnk-{os.geteuid()}-{short}").exists()
    finally:
        end_fork_server(fork_server.pid)
        state.close()


async def test_a_reboot_is_believed_by_the_attempts_own_boot_id(host: Host) -> None:
    directory = host.state.accept("run", 3, {})
    identity = {"version": 1, "run_id": "run", "epoch": 3, "pid": 1, "start_time": 1, "boot_id": "another",
                "cookie": "c", "guard_pid": 1}  # fmt: skip
    files.write_once(str(directory), "identity", json.dumps(identity).encode())
    record = host.state.settle("run", 3, patience_s=10).record
    assert record is not None
    assert (record.outcome, record.tree_empty) == (Outcome.HOST_REBOOTED, True)


async def test_one_agent_at_a_time(host: Host) -> None:
    with pytest.raises(StateDirectoryBusy):
        StateDirectory.open(host.state.path)


async def test_a_dead_spare_is_replaced_and_leaves_no_cgroup(host: Host) -> None:
    (spare,) = wait_for(host.shims, what="a spare shim")
    parent = own_cgroup()
    os.kill(spare, signal.SIGKILL)
    wait_for(lambda: host.shims() and host.shims() != [spare], what="another spare")
    if parent is not None:
        wait_for(
            lambda: not [name for name in os.listdir(parent) if name.startswith(f"banksman-{spare}-")],
            what="its cgroup is gone",
        )
    record, _ = await host.run(shell("echo still works"))
    assert record.exit_code == 0


async def test_a_first_child_that_died_while_its_shim_was_waiting_is_no_run_that_goes_on(host: Host) -> None:
    def waiting() -> int | None:
        spares = tree.children(host.fork_server.pid)
        return next((child for spare in spares for child in tree.children(spare)), None)

    os.kill(wait_for(waiting, what="a child that waits ahead"), signal.SIGKILL)
    run = await host.start(step("true"))
    record = await run.end()
    assert (record.outcome, record.tree_empty) == (Outcome.NOT_STARTED, True)
    assert not any(isinstance(event, Started) for event in run.events)


async def test_sockets_are_ours_alone(host: Host) -> None:
    run = await host.start(step("sleep", "1000"))
    await run.until(Started)
    for path in (host.state.path / protocol.FORK_SERVER_SOCKET, run.directory / protocol.CONTROL_SOCKET):
        assert path.stat().st_mode & 0o777 == 0o600
    assert host.state.path.stat().st_mode & 0o777 == 0o700
    assert run.directory.stat().st_mode & 0o777 == 0o700
