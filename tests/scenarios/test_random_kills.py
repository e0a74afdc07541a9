"""Random faults on everything at once; afterwards each run's own words are held against what the control plane says."""

from __future__ import annotations

import contextlib
import pathlib
import random
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import pytest
from banksman.v1 import log_pb2, run_pb2

from tests.scenarios import truthful
from tests.scenarios.children import lines, locked
from tests.scenarios.faults import KINDS, Faults, lock_holder
from tests.scenarios.house import FINISHED, Agent, House
from tests.scenarios.program import touching
from tests.scenarios.proxy import Proxy
from tests.scenarios.specs import seconds, spec
from tests.waiting import wait_for

RUNS = 10
COUNT = 90


@dataclass(slots=True, kw_only=True)
class Told:
    """One run as the test asked for it."""

    id: str
    name: str
    steps: int
    code: int
    cancelled: bool = False


class Site:
    """A house, its one runner behind a proxy, and the runs."""

    def __init__(self, house: House, proxy: Proxy, chance: random.Random) -> None:
        self.house = house
        self.chance = chance
        self.place = house.root / "truth"
        self.place.mkdir()
        self.agent = house.agent("r1", slots=4, start=False)
        self.agent.argv[self.agent.argv.index("--server") + 1] = f"http://127.0.0.1:{proxy.port}"
        self.agent.connect()
        self.faults = Faults(house, self.agent, proxy, chance)
        self.runs = [self._submit(number) for number in range(RUNS)]

    def _submit(self, number: int) -> Told:
        name, steps, code = f"run-{number}", 1 + number % 2, 3 if number % 4 == 3 else 0
        program = [sys.executable, "-I", "-S", truthful.__file__, str(self.place), name]
        tail = "tail" if number % 3 == 1 else ""
        argvs = [[*program, str(step), str(COUNT), str(code * (step == steps - 1)), tail] for step in range(steps)]
        return Told(id=self.house.submit(spec(*argvs, grace=seconds(0.5))).id, name=name, steps=steps, code=code)

    def truth(self, *words: str, name: str = "") -> list[list[str]]:
        """What the children said, as [word, name, step, epoch]."""
        said = [line.split() for line in lines(self.place / "truth")]
        return [item for item in said if item[0] in words and name in ("", item[1])]

    def go_on(self) -> None:
        """Until a child has said something more, or no child is alive that could."""
        before = len(lines(self.place / "truth"))
        wait_for(
            lambda: len(lines(self.place / "truth")) > before or not any(self.alive(told) for told in self.runs),
            what="the runs go on",
        )

    def alive(self, told: Told, *kinds: str) -> bool:
        """Does any process of the run hold its lock (of these kinds)?"""
        paths = [self.place / f"{told.name}.{kind}" for kind in kinds or ("lock",)]
        return any(path.exists() and locked(path) for path in paths)

    def cancel_one(self, *, force: bool) -> None:
        """Cancel some run that is not over; answered OK, it must end CANCELLED."""
        told = self.chance.choice([told for told in self.runs if not told.cancelled])
        try:
            self.house.cancel(told.id, force=force)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:  # it had ended
                raise
        else:
            told.cancelled = True

    def shim_died(self, told: Told) -> bool:
        return told.id in self.faults.shims_killed


@pytest.mark.parametrize("seed", [3, 4])
def test_after_any_faults_every_run_is_as_it_says_itself(house: House, seed: int) -> None:
    chance = random.Random(seed)
    with Proxy(house.admin.target) as proxy:
        site = Site(house, proxy, chance)
        for number, kind in enumerate(chance.sample(KINDS, 6)):
            site.go_on()
            if number in (2, 4):
                site.cancel_one(force=number == 4)
            site.faults.bring(kind, site.go_on)
        for told in site.runs:
            _expect_the_truth(site, told, house.wait(told.id))
        _expect_nothing_left(site)
    _expect_sound_servers(house, site.agent)


def _expect_the_truth(site: Site, told: Told, run: run_pb2.Run) -> None:
    said = site.truth("start", "stop", "overlap", name=told.name)
    assert run.state in FINISHED
    assert run.HasField("settled_at")
    assert not [item for item in said if item[0] == "overlap"], said
    starts = [tuple(item[2:]) for item in said if item[0] == "start"]
    assert len(starts) == len({step for step, _ in starts}), f"something ran twice: {said}"
    assert {int(epoch) for _, epoch in starts} <= {attempt.lease_epoch for attempt in run.attempts}
    assert not (run.kill_confirmed and site.alive(told, "lock", "tail")), run
    _expect_the_end(site, told, run)
    for descriptor, kind in ((1, log_pb2.LOG_KIND_STDOUT), (2, log_pb2.LOG_KIND_STDERR)):
        _expect_the_log(site, told, run, descriptor, site.house.log(told.id, kind))


def _expect_the_end(site: Site, told: Told, run: run_pb2.Run) -> None:
    if told.cancelled:
        assert run.state == run_pb2.RUN_STATE_CANCELLED, run
    elif site.shim_died(told) and run.state == run_pb2.RUN_STATE_LOST:
        assert run.reason == run_pb2.REASON_SHIM_DIED, run
    else:
        succeeded = run_pb2.RUN_STATE_SUCCEEDED if told.code == 0 else run_pb2.RUN_STATE_FAILED
        assert (run.state, run.exit_code) == (succeeded, told.code), run
        assert len(site.truth("stop", name=told.name)) == told.steps
    if not site.shim_died(told):
        assert run.kill_confirmed, run


def _expect_the_log(site: Site, told: Told, run: run_pb2.Run, descriptor: int, read: bytes) -> None:
    whole = truthful.streams(told.name, told.steps, COUNT)[descriptor]
    if run.state in (run_pb2.RUN_STATE_SUCCEEDED, run_pb2.RUN_STATE_FAILED):
        assert read == whole
    assert whole.startswith(read)
    if site.shim_died(told):
        return
    counts = [path.read_bytes().split() for path in site.place.glob(f"{told.name}.*.wrote")]
    assert len(read) >= sum(int(count[descriptor - 1]) for count in counts if count), "bytes are lost"
    for attempt in run.attempts:
        assert not attempt.gaps


def _expect_nothing_left(site: Site) -> None:
    state = site.faults.state

    def empty() -> bool:
        runner = site.agent.runner()
        left = [path for path in (state / "runs").iterdir() if path.name != "quarantine"]
        assert runner is not None
        return not left and not runner.slots_used and not runner.held_run_ids

    wait_for(empty, what="slots and run directories are free")
    assert not list((state / "runs" / "quarantine").iterdir())
    assert not list((state / "workspaces").iterdir())
    wait_for(lambda: not _shims(site), what="no shim and no child of one is left")


def _shims(site: Site) -> list[int]:
    """What touches the house beside the two programs, the fork server, its spare and the spare's waiting child."""
    guard = lock_holder(site.faults.state / "fork.lock")
    known = {site.house.server.pid, site.agent.pid, guard}
    spares = [pid for pid in touching(site.house.root) if _parent(pid) == guard][:1]
    return [pid for pid in touching(site.house.root) if pid not in {*known, *spares} and _parent(pid) not in spares]


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _expect_sound_servers(house: House, agent: Agent) -> None:
    house.server.kill_dash_nine()
    for path in _databases(house.server_directory):
        with contextlib.closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    for program in (house.server, agent):
        assert "Traceback" not in program.output.read_text(errors="replace")


def _databases(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    found = [path for path in directory.iterdir() if path.suffix == ".db"]
    assert found
    yield from found
