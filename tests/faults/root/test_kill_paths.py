"""The ladder where it can do more, and where it can do less, than on a host of today with the runs' own user."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import sys
from collections.abc import Iterator

import pytest
from banksman.v1 import run_pb2

from tests.faults.figures import Recorder
from tests.faults.root import hosts
from tests.scenarios import troupe
from tests.scenarios.children import locked, python
from tests.scenarios.faults import lock_holder
from tests.scenarios.house import House
from tests.scenarios.specs import seconds, spec
from tests.waiting import wait_for

# argv: lock, arrived. Becomes another user, as a set-user-id program does, and ignores signals.
ESCAPED = """
import fcntl, os, signal, sys
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)
arrived = os.open(sys.argv[2], os.O_WRONLY)
os.setresuid(65534, 65534, 65534)
os.write(arrived, b"%d\\n" % os.getpid())
while True:
    signal.pause()
"""


def cgroups_of(house: House, artists: list[troupe.Artist]) -> set[str]:
    found = set()
    for artist in artists:
        for path in (house.root / "r0" / "runs").glob(f"{artist.run}.*/identity"):
            found.add(str(json.loads(path.read_text())["cgroup"]))
    return found


def test_the_freezer_of_version_1_ends_every_shape(house: House, figures: Recorder) -> None:
    agent = hosts.without_version_2(house, house.agent("r1", slots=len(troupe.SHAPES), start=False))
    agent.connect()
    artists = troupe.at_large(house)
    places = cgroups_of(house, artists)
    assert all(os.path.exists(os.path.join("/proc", str(agent.pid), "root", place.lstrip("/"))) for place in places)
    assert len(places) == len(artists)
    for artist in artists:
        house.cancel(artist.run)
    ends = troupe.endings(house, artists)
    left = troupe.survivors(artists)
    assert all(done.kill_confirmed for done in ends.values())
    figures.record("survivors after the ladder", len(left), goal="0", ok=not left, note="version 1 freezer")
    again = troupe.at_large(house)
    os.kill(int(lock_holder(house.root / "r0" / "fork.lock") or 0), signal.SIGKILL)
    for artist in again:
        for path in (house.root / "r0" / "runs").glob(f"{artist.run}.*"):
            os.kill(int(lock_holder(path / "lock") or 0), signal.SIGKILL)
    for shape, done in troupe.endings(house, again).items():
        assert (done.reason, done.kill_confirmed) == (run_pb2.REASON_SHIM_DIED, True), shape
    assert troupe.survivors(again) == []


def test_a_process_that_may_not_be_signalled_is_never_called_dead(house: House, figures: Recorder) -> None:
    hosts.without_the_right_to_kill(house.agent("r1", start=False)).connect()
    arrived, lock = house.fifo("arrived"), house.root / "lock"
    run = house.submit(spec(python(ESCAPED, lock, arrived.path), grace=seconds(0.2)))
    pid = int(arrived.receive())
    house.cancel(run.id)
    done = house.wait(run.id)
    alive = locked(lock)
    figures.record(
        "false kill_confirmed", int(done.kill_confirmed and alive), goal="0", ok=not (done.kill_confirmed and alive),
        note="a child of another user under an agent that may not kill it",
    )  # fmt: skip
    assert alive, "it may not be signalled"
    assert (done.state, done.kill_confirmed) == (run_pb2.RUN_STATE_CANCELLED, False)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not locked(lock), what="its end")


@pytest.fixture
def little_memory() -> Iterator[pathlib.Path]:
    """A cgroup that allows 256 MiB; it is empty again when the house that came after it is closed."""
    made = memory_cgroup()
    yield made
    wait_for(lambda: removed(made), what="the memory cgroup is empty")


def test_a_child_that_the_kernel_kills_for_its_memory_takes_nobody_along(
    little_memory: pathlib.Path, house: House
) -> None:
    agent = house.agent("r1", start=False)
    hosts.wrapped(agent, "sh", "-c", f'echo $$ > {little_memory / "cgroup.procs"} && exec "$@"', "sh")
    agent.connect()
    fork_server = lock_holder(house.root / "r0" / "fork.lock")
    argv = [sys.executable, "-c", "import os\nos.write(1, b'before\\n')\nheld = bytearray(b'x') * (1 << 30)"]
    done = house.execute(spec(argv))
    assert done.state == run_pb2.RUN_STATE_FAILED
    assert done.reason in (run_pb2.REASON_SIGNALLED, run_pb2.REASON_OOM_KILLED)
    assert (done.signal, done.kill_confirmed) == (signal.SIGKILL, True)
    assert house.log(done.id) == b"before\n"
    agent.expect_running()
    assert lock_holder(house.root / "r0" / "fork.lock") == fork_server
    assert house.execute(spec(["/bin/true"])).state == run_pb2.RUN_STATE_SUCCEEDED


def memory_cgroup() -> pathlib.Path:
    """Of version 1 or 2, wherever this host has the controller."""
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, *rest = right.split()
        point = pathlib.Path(left.split()[4])
        if kind == "cgroup" and "memory" in rest[-1].split(","):
            name = "memory.limit_in_bytes"
        elif kind == "cgroup2" and "memory" in (point / "cgroup.controllers").read_text().split():
            (point / "cgroup.subtree_control").write_text("+memory")
            name = "memory.max"
        else:
            continue
        made = point / f"banksman-test-{os.getpid()}"
        made.mkdir()
        (made / name).write_text(str(256 << 20))
        return made
    raise AssertionError("this host has no memory cgroup")


def removed(path: pathlib.Path) -> bool:
    try:
        path.rmdir()
    except OSError:
        return False
    return True
