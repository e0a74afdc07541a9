"""A campaign of kills: one house under steady traffic, in which agent or server dies at one named phase after another.

`Traffic` keeps runs going (short and long, deaf, with tails, failing, scheduled), reads each log when it has settled,
and looks at some in between. `Campaign` arms one order after another, waits until it has struck, starts what died.
"""

from __future__ import annotations

import collections
import contextlib
import pathlib
import random
import sqlite3
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from banksman.v1 import run_pb2, schedule_pb2, task_pb2

from tests.failpoints.house import PointedHouse
from tests.history import truthful
from tests.history.lines import History
from tests.history.recorder import Recorder
from tests.scenarios.house import FINISHED
from tests.scenarios.program import Program
from tests.scenarios.specs import seconds, spec
from tests.waiting import wait_for

T = TypeVar("T")

# Phases by name, with the points that belong to each.
AGENT: Mapping[str, tuple[str, ...]] = {
    "before fork": ("agent.fork.before_order",),
    "after fork, before the report": ("agent.fork.after_order", "agent.started.before_send"),
    "between steps": ("agent.step_ended.heard", "agent.step.before_send"),
    "mid-output": ("agent.log.before_send@2", "agent.log.after_send@3", "agent.log.after_send@7"),
    "in grace": ("agent.stop.passed_on", "agent.stop_phase.heard@2"),
    "after exit, before the report": ("agent.exited.heard", "agent.exit.before_send"),
    "elsewhere": ("agent.accept.after_journal", "agent.release.renamed", "agent.heartbeat.before_send"),
}
SERVER: Mapping[str, tuple[str, ...]] = {
    f"around the commit of {verb}": tuple(
        f"server.{point}.{moment}" for moment in ("before_commit", "after_commit", "after_send")
    )
    for verb, point in {
        "offer": "offer", "accept": "accept", "log batch": "log_batch", "exit": "exit", "cancel": "cancel",
    }.items()
}  # fmt: skip
FIRING = "around the commit of firing"
FIRINGS = ("server.firing.before_commit", "server.firing.after_commit")
PERIOD_S = 2.0
ACTIVE = 8
# How often a strike is helped along, three seconds each, before the victim is killed where it is.
PATIENCE = 5
LOUD = [500, 3_000, 120_000, 130_000]


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill to bring about."""

    victim: str
    phase: str
    point: str


@dataclass(slots=True, kw_only=True)
class Asked:
    """A run of the traffic. `kind` tells whether a cancel finds it deaf."""

    id: str
    kind: str
    cancelled: bool = False


def kills(each_agent: int, each_server: int, chance: random.Random) -> list[Kill]:
    """So many of every phase, in a random order."""
    found = []
    for victim, phases, count in (("agent", AGENT, each_agent), ("server", {**SERVER, FIRING: FIRINGS}, each_server)):
        for phase, points in phases.items():
            found += [Kill(victim, phase, points[number % len(points)]) for number in range(count)]
    chance.shuffle(found)
    return found


def patiently(call: Callable[[], T]) -> T:
    """The answer, however often the server dies over it."""
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                raise


class Traffic:
    """Runs, from the first to the last; in a thread of its own."""

    def __init__(self, house: PointedHouse, recorder: Recorder, chance: random.Random) -> None:
        self.house = house
        self.recorder = recorder
        self.active: dict[str, Asked] = {}
        self.done = 0
        self._chance = chance
        self._number = 0
        self._ends = threading.Event()
        self._abandoned = False
        self._timed: list[dict[str, Any]] = []

    def run(self) -> None:
        """Until told to end; then until everything has settled and was read."""
        while not self._ends.is_set():
            while len(self.active) < ACTIVE and not self._ends.is_set():
                self._submit()
            self._look()
            self._ends.wait(0.1)
        if not self._abandoned:
            wait_for(self._all_settled, what="every run settles", timeout_s=120)

    def end(self, *, abandon: bool = False) -> None:
        self._abandoned = abandon
        self._ends.set()

    def _all_settled(self) -> bool:
        self._look()
        return not self.active

    def _submit(self) -> None:
        self._number += 1
        kind = ("loud", "short", "steps", "loud", "deaf", "short", "tail")[self._number % 7]
        plans = [truthful.plan(name=f"n{self._number}", step=step, **fields) for step, fields in enumerate(_kind(kind))]
        wanted = spec(*(truthful.argv(self.recorder.place, plan) for plan in plans), grace=seconds(0.7))
        request = f"n{self._number}"
        run = patiently(lambda: self.house.submit(wanted, request_id=request))
        self.recorder.submitted(run.id, plans, request_id=request)
        self.active[run.id] = Asked(id=run.id, kind=kind)

    def _look(self) -> None:
        """Who has settled is read whole; sometimes the log of one that is under way."""
        for asked in list(self.active.values()):
            run = patiently(lambda asked=asked: self.house.get(asked.id))
            if run.state in FINISHED and run.HasField("settled_at"):
                patiently(lambda run=run: self.recorder.read_logs(self.house.doors, run.id))
                del self.active[run.id]
                self.done += 1
            elif run.attempts and self._chance.random() < 0.03:
                epoch = run.attempts[0].lease_epoch
                patiently(lambda run=run, epoch=epoch: self.recorder.peek(self.house.doors, run.id, epoch))

    def cancel(self) -> None:
        """A run whose program is there; a deaf one, if there is one. The server may die over it."""
        running = [each for each in list(self.active.values()) if not each.cancelled]
        there = [each for each in running if truthful.alive(self.recorder.place, each.id)]
        there.sort(key=lambda each: each.kind != "deaf")
        if there:
            there[0].cancelled = True
            with contextlib.suppress(grpc.RpcError):  # it may be over; the call is in the history
                self.house.cancel(there[0].id)

    # -- what fires by itself

    def schedule(self) -> None:
        """A task that is due every two seconds."""
        self._timed = [truthful.plan(name="timed", pieces=4, pause_s=0.005)]
        wanted = spec(truthful.argv(self.recorder.place, self._timed[0]))
        doors = self.house.doors
        task = doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=task_pb2.Task(name="timed", spec=wanted)))
        made = schedule_pb2.Schedule(
            name="timed", task_id=task.id, every=seconds(PERIOD_S), overlap=schedule_pb2.OVERLAP_POLICY_ALLOW
        )
        doors.schedules.CreateSchedule(schedule_pb2.CreateScheduleRequest(schedule=made))

    def end_schedule(self) -> None:
        """Keep its row as it was while it fired, pause it, and take its runs over."""
        database = self.house.server_directory / "banksman.db"
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            for row in connection.execute("SELECT * FROM schedules"):
                self.recorder.put("row", table="schedules", **dict(row))
        pause = schedule_pb2.PauseScheduleRequest(schedule="timed")
        patiently(lambda: self.house.doors.schedules.PauseSchedule(pause))
        token = ""
        while True:
            request = run_pb2.ListRunsRequest(page_size=1000, page_token=token)
            answer = self.house.doors.runs.ListRuns(request)
            for run in answer.runs:
                if run.schedule_id:
                    self.recorder.submitted(run.id, self._timed)
                    self.active[run.id] = Asked(id=run.id, kind="timed")
            token = answer.next_page_token
            if not token:
                return


def _kind(kind: str) -> list[dict[str, Any]]:
    """The plans of a run's steps."""
    match kind:
        case "loud":
            return [{"pieces": 160, "sizes": LOUD, "pause_s": 0.004, "beat": 40}]
        case "steps":
            return [{"pieces": 6, "pause_s": 0.01}, {"pieces": 6, "pause_s": 0.01}, {"pieces": 20, "code": 3}]
        case "deaf":
            return [{"pieces": 400, "pause_s": 0.02, "beat": 100, "deaf": True}]
        case "tail":
            return [{"pieces": 20, "tail": True}]
        case _:
            return [{"pieces": 8, "pause_s": 0.005}]


@dataclass(slots=True, kw_only=True)
class Campaign:
    """One house and its kills: `struck` by phase, `killed` by victim. Once `halted`, it makes an early end."""

    name: str
    seed: int
    history: pathlib.Path
    say: Callable[[str], None]
    halted: threading.Event = field(default_factory=threading.Event)
    struck: collections.Counter[str] = field(default_factory=collections.Counter)
    killed: collections.Counter[str] = field(default_factory=collections.Counter)

    def run(self, wanted: list[Kill]) -> History:
        """All of it; the history is whole, or this raises."""
        chance = random.Random(self.seed)
        with PointedHouse() as house:
            recorder = Recorder(self.history, house.root / "truth", seed=self.seed)
            agent = house.agent("r1", slots=ACTIVE)
            house.doors = house.client("", recorder)
            traffic = Traffic(house, recorder, chance)
            traffic.schedule()
            failed: list[BaseException] = []
            thread = threading.Thread(target=_kept(traffic.run, failed), name=f"traffic-{self.name}")
            thread.start()
            try:
                self._kill_all(house, agent, traffic, wanted, failed)
                house.points.disarm()
                if not self.halted.is_set():
                    traffic.end_schedule()
            finally:
                traffic.end(abandon=self.halted.is_set())
                thread.join(180)
            if failed:
                raise failed[0]
            if self.halted.is_set():
                raise RuntimeError(f"{self.name} was halted")
            self.say(f"{self.name}: {traffic.done} runs, {sum(self.killed.values())} kills; checking")
            return recorder.expect_whole(house)

    def _kill_all(
        self, house: PointedHouse, agent: Program, traffic: Traffic, wanted: list[Kill], failed: list[BaseException]
    ) -> None:
        programs = {"agent": agent, "server": house.server}
        left = collections.deque(wanted)
        tries = 2 * len(wanted)
        while left and tries and not failed and not self.halted.is_set():
            tries -= 1
            kill = left.popleft()
            for program in programs.values():
                traffic.recorder.memory(program)
            if self._strike(house, programs[kill.victim], traffic, kill):
                self.struck[kill.phase] += 1
            else:
                left.append(kill)
            self.killed[kill.victim] += 1
            house.points.disarm()
            agent.start() if kill.victim == "agent" else house.start_server()
            if sum(self.killed.values()) % 20 == 0:
                self.say(f"{self.name}: {sum(self.killed.values())} kills, {traffic.done} runs have settled")

    def _strike(self, house: PointedHouse, victim: Program, traffic: Traffic, kill: Kill) -> bool:
        """Arm, help it along, and wait until the victim is dead; False: the point was not reached, killed anyway."""
        point, _, nth = kill.point.partition("@")
        house.points.arm(f"{point}:kill@{nth or 1}")
        cancels = "grace" in kill.phase or "cancel" in kill.phase
        for _ in range(PATIENCE):
            if cancels:
                traffic.cancel()
            with contextlib.suppress(TimeoutError):
                house.points.wait(point, timeout_s=3)
                break
        traffic.recorder.fault(kill.victim, phase=kill.phase, point=kill.point)
        struck = bool(house.points.hits(point))
        if not struck:
            victim.kill_dash_nine()
        victim.wait(15)
        return struck


def _kept(call: Callable[[], None], failed: list[BaseException]) -> Callable[[], None]:
    """For a thread: what it raises is kept for the one who waits for it."""

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised again by the one who waits
            failed.append(error)

    return run
