"""A shim that waits for its start in the directory of an accepted attempt: it is as if it were not there."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from runner_agent.execution import journal
from runner_agent.execution.run_directory import Standing
from runner_agent.execution.shim_link import AttemptStart, Exited, Outcome, Reservation, ShimLink, ShimRefused
from runner_agent.shim import attempt_files, files, protocol
from runner_agent.shim.ground import Ground
from tests.integration.shim.host import Host, step
from tests.waiting import wait_for

# What the agent itself may have there, and what is no mark of anything.
NOTHING = {"lock"}


def reserved(host: Host) -> tuple[Path, Reservation]:
    """An accepted attempt with a shim that has made everything ready."""
    directory = host.state.accept("run", 3, {})
    reservation = host.fork_server.reserve(directory)
    wait_for(lambda: (directory / protocol.CONTROL_SOCKET).exists(), what="a shim makes the directory ready")
    return directory, reservation


async def started(reservation: Reservation, start: AttemptStart) -> ShimLink | Exception | None:
    """What came of handing it the attempt; None if it had left."""
    answer: asyncio.Future[ShimLink | Exception] = asyncio.get_running_loop().create_future()
    return await answer if reservation.begin(start, answer.set_result) else None


async def last(link: ShimLink) -> Exited:
    """The end that the shim tells."""
    event = [event async for event in link.events()][-1]
    link.close()
    assert isinstance(event, Exited)
    return event


def waiting(directory: Path) -> int:
    """The process that holds the directory."""
    inode = (directory / "lock").stat().st_ino
    lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return next(int(words[4]) for words in lines if words[5].endswith(f":{inode}") and words[1] == "FLOCK")


def left_behind(host: Host, directory: Path) -> set[str]:
    """What a shim has left: files of the directory, and the run's socket."""
    short = attempt_files.short_name(str(host.state.path), directory.name)
    places = (host.state.path / attempt_files.SHORT_SOCKETS / short, Path(f"/tmp/bnk-{os.geteuid()}-{short}"))
    return set(os.listdir(directory)) | {str(place) for place in places if place.exists()}


async def test_the_attempt_is_started_in_it(host: Host, tmp_path: Path) -> None:
    _, reservation = reserved(host)
    touched = tmp_path / "touched"
    link = await started(reservation, host.attempt(step("touch", str(touched)), run_id="run", epoch=3))
    assert isinstance(link, ShimLink)
    event = await last(link)
    assert (event.record.outcome, touched.exists()) == (Outcome.ENDED_WELL, True)


async def test_it_leaves_with_its_agent_and_leaves_nothing_behind(host: Host) -> None:
    directory, reservation = reserved(host)
    assert host.state.settle("run", 3).standing is Standing.LIVE
    reservation.close()
    (entry,) = await asyncio.to_thread(host.state.scan)
    assert entry.standing is Standing.ACCEPTED, "a new agent finds the acceptance as it was"
    assert left_behind(host, directory) == NOTHING
    assert (await host.run(step("true"), run_id="run", epoch=3))[0].outcome is Outcome.ENDED_WELL


async def test_an_attempt_whose_waiting_shim_is_gone_is_started_without_it(host: Host) -> None:
    directory, reservation = reserved(host)
    os.kill(waiting(directory), signal.SIGKILL)
    wait_for(lambda: not journal.is_held(directory), what="it is gone")
    start = host.attempt(step("true"), run_id="run", epoch=3)
    assert await started(reservation, start) is None
    assert host.state.settle("run", 3).standing is Standing.ACCEPTED, "what a killed one leaves is no mark of use"
    link = await host.fork_server.start(directory, start)
    event = await last(link)
    assert event.record.outcome is Outcome.ENDED_WELL


async def test_what_is_given_up_meanwhile_is_not_started_in_it(host: Host, tmp_path: Path) -> None:
    directory = host.state.accept("run", 3, {})
    files.write_once(str(directory), "tombstone", b"{}")
    reservation = host.fork_server.reserve(directory)
    touched = tmp_path / "touched"
    told = await started(reservation, host.attempt(step("touch", str(touched)), run_id="run", epoch=3))
    assert isinstance(told, ShimRefused)
    assert not touched.exists()


async def test_two_of_one_attempt_do_not_disturb_each_other(host: Host) -> None:
    directory, first = reserved(host)
    second = host.fork_server.reserve(directory)
    start = host.attempt(step("true"), run_id="run", epoch=3)
    told = await started(second, start)
    assert isinstance(told, ShimRefused), "the first holds the directory"
    assert (directory / protocol.CONTROL_SOCKET).exists()
    link = await started(first, start)
    assert isinstance(link, ShimLink)
    assert (await last(link)).record.outcome is Outcome.ENDED_WELL


async def test_a_released_attempt_takes_its_shim_with_it(host: Host) -> None:
    directory, reservation = reserved(host)
    reservation.close()
    await asyncio.to_thread(host.state.release, "run", 3)
    assert not directory.exists()
    wait_for(lambda: len(host.shims()) <= 1, what="only a spare is left")


# -- after a power cut


@pytest.mark.parametrize(
    ("boot_id", "keep", "outcome"),
    [
        ("another", None, Outcome.HOST_REBOOTED),  # its name was lost, and perhaps it was executed
        ("another", 100, Outcome.NOT_STARTED),  # not whole: it was not synced yet, so that nothing was executed
        ("", None, Outcome.NOT_STARTED),  # no reboot: it never got its name, which it gets before the barrier opens
        ("another", 0, None),  # made ready, no more
    ],
)
async def test_an_identity_that_lost_its_name(
    host: Host, boot_id: str, keep: int | None, outcome: Outcome | None
) -> None:
    directory = host.state.accept("run", 3, {})
    identity = {
        "version": 1, "run_id": "run", "epoch": 3, "pid": 1, "start_time": 1,
        "boot_id": boot_id or files.boot_id(), "cookie": "of-the-dead", "guard_pid": 1,
    }  # fmt: skip
    files.reserve(str(directory))
    (directory / files.temporary(attempt_files.IDENTITY)).write_bytes(files.encode_json(identity)[:keep])
    if outcome is not None:
        with pytest.raises(ShimRefused, match="was started before"):
            await host.fork_server.start(directory, host.attempt(step("true"), run_id="run", epoch=3))
    entry = await asyncio.to_thread(host.state.settle, "run", 3, patience_s=10)
    found = None if entry.record is None else entry.record.outcome
    assert (entry.standing, found) == (Standing.ACCEPTED if outcome is None else Standing.EXITED, outcome)


async def test_the_name_lasts_before_the_content_is_written(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the content alone the start waits for the disk."""
    directory = host.state.accept("run", 3, {})
    monkeypatch.chdir(directory)
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    place = attempt_files.Place(
        state_directory=str(host.state.path), name=directory.name, shim_pid=1, shim_start_time=1, guard_pid=1,
        guard_start_time=1, boot_id="", oom_score="", use_cgroups=False,
    )  # fmt: skip
    ground = Ground(place)
    unnamed = directory / files.temporary(attempt_files.IDENTITY)
    assert (ground.trouble, synced, unnamed.stat().st_size) == (None, [str(directory)], 0)
    ground.store_identity(b"{}")
    assert synced == [str(directory), str(unnamed)]
    assert (directory / attempt_files.IDENTITY).read_bytes() == b"{}"
    ground.give_back()
