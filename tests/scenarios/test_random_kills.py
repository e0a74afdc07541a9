"""Random faults on everything at once; afterwards the whole history must hold, by each run's own words."""

from __future__ import annotations

import contextlib
import pathlib
import random
from dataclasses import dataclass

import grpc
import pytest
from banksman.v1 import run_pb2

from tests.history import truthful
from tests.history.checker import check, tally
from tests.history.lines import History
from tests.history.recorder import Recorder
from tests.scenarios.faults import KINDS, Faults, lock_holder
from tests.scenarios.house import House
from tests.scenarios.program import touching
from tests.scenarios.proxy import Proxy
from tests.scenarios.specs import seconds, spec
from tests.waiting import wait_for

RUNS = 10


@dataclass(slots=True, kw_only=True)
class Told:
    """One run as the test asked for it."""

    id: str
    cancelled: bool = False


class Site:
    """A house, its one runner behind a proxy, and the runs."""

    def __init__(self, house: House, proxy: Proxy, chance: random.Random, history: pathlib.Path) -> None:
        self.house = house
        self.chance = chance
        self.recorder = Recorder(history, house.root / "truth")
        self.agent = house.agent("r1", slots=4, start=False)
        self.agent.argv[self.agent.argv.index("--server") + 1] = f"http://127.0.0.1:{proxy.port}"
        self.agent.connect()
        house.doors = house.client("", self.recorder)
        self.faults = Faults(house, self.agent, proxy, chance, self.recorder)
        self.runs = [self._submit(number) for number in range(RUNS)]

    def _submit(self, number: int) -> Told:
        """One or two steps; some leave a tail behind, some fail."""
        codes = [0, 3 if number % 4 == 3 else 0][: 1 + number % 2]
        plans = [
            truthful.plan(name=f"run-{number}", step=step, code=code, tail=number % 3 == 1)
            for step, code in enumerate(codes)
        ]
        wanted = spec(*(truthful.argv(self.recorder.place, plan) for plan in plans), grace=seconds(0.5))
        run = self.house.submit(wanted, request_id=f"request-{number}")
        self.recorder.submitted(run.id, plans, request_id=f"request-{number}")
        return Told(id=run.id)

    def go_on(self) -> None:
        """Until a child has said something more, or no child is alive that could."""
        before = len(self.recorder.truth())
        wait_for(
            lambda: len(self.recorder.truth()) > before or not any(map(self.alive, self.runs)),
            what="the runs go on",
        )

    def alive(self, told: Told) -> bool:
        return bool(truthful.alive(self.recorder.place, told.id))

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

    def look(self) -> None:
        """Read what some log has now: it must stay so."""
        shown = self.house.get(self.chance.choice(self.runs).id)
        if shown.attempts:
            self.recorder.peek(self.house.doors, shown.id, shown.attempts[0].lease_epoch)


@pytest.mark.parametrize("seed", [3, 4])
def test_after_any_faults_every_run_is_as_it_says_itself(house: House, seed: int, tmp_path: pathlib.Path) -> None:
    chance = random.Random(seed)
    with Proxy(house.admin.target) as proxy:
        site = Site(house, proxy, chance, tmp_path / "history.jsonl")
        for number, kind in enumerate(chance.sample(KINDS, 6)):
            site.go_on()
            site.look()
            if number in (2, 4):
                site.cancel_one(force=number == 4)
            site.faults.bring(kind, site.go_on)
        for told in site.runs:
            run = house.wait(told.id)
            assert run.kill_confirmed or told.id in site.faults.shims_killed, run
            site.recorder.read_logs(house.doors, told.id)
        _expect_nothing_left(site)
    assert tally(site.recorder.expect_whole(house)).bytes_wrong == 0


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


def test_a_history_in_which_something_is_wrong_is_refused(house: House, tmp_path: pathlib.Path) -> None:
    """The check itself, on a real history: a row that was changed behind the control plane's back."""
    recorder = Recorder(tmp_path / "history.jsonl", house.root / "truth")
    house.agent("r1")
    house.doors = house.client("", recorder)
    plan = truthful.plan(name="run", pieces=6)
    run = house.execute(spec(truthful.argv(recorder.place, plan)))
    assert run.state == run_pb2.RUN_STATE_SUCCEEDED
    recorder.submitted(run.id, [plan])
    recorder.read_logs(house.doors, run.id)
    recorder.expect_whole(house)
    changed = recorder.path.read_text().replace('"state": "SUCCEEDED"', '"state": "FAILED"')
    recorder.path.write_text(changed)
    assert {violation.invariant for violation in check(History.load(recorder.path))} >= {3, 6}
