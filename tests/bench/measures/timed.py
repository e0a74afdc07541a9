"""Schedules: what very many cost while nothing is due, and how late a thousand are that are due at the same instant.

They are copies, made by SQL while the server is down, of one schedule that the product made. No runner is there: what
is measured is the firing, up to the run's birth.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from banksman.v1 import run_pb2, schedule_pb2, task_pb2

from control_plane.storage.sqlite import DATABASE_NAME
from tests.bench.measures.children import percentile
from tests.bench.processes import Meter, memory_mib
from tests.bench.registry import Figure, Limits, Round, measurement
from tests.scenarios.house import House
from tests.scenarios.specs import seconds, spec

DAY_S = 86_400
# The server's start and its first look at the tables lie before it.
DUE_AFTER_S = 10.0
# The scheduler arms what is due within a minute, ten thousand at most.
ARMED_LATER_S = 50.0
MOST_ARMED = 10_000
NAMES = ("1k", "100k")


class Almanac:
    """A server's house, and its one schedule, of which copies are made while it is down."""

    def __init__(self, house: House) -> None:
        self.house = house
        connection = sqlite3.connect(house.server_directory / DATABASE_NAME)
        self.columns = [row[1] for row in connection.execute("PRAGMA table_info(schedules)")]
        found = connection.execute("SELECT * FROM schedules").fetchone()
        self.pattern = dict(zip(self.columns, found, strict=True))
        connection.close()


def populate(almanac: Almanac, count: int, due_at_us: Callable[[int], int]) -> None:
    """So many schedules, once a day; the function says when the n-th is due first. The server is down."""
    columns, pattern = almanac.columns, almanac.pattern
    connection = sqlite3.connect(almanac.house.server_directory / DATABASE_NAME, isolation_level=None)
    statement = f"INSERT INTO schedules VALUES ({', '.join('?' * len(columns))})"
    connection.execute("BEGIN")
    connection.execute("DELETE FROM schedules")
    for number in range(count):
        due_us = due_at_us(number)
        made = {**pattern, "id": f"{pattern['id'][:-12]}{number:012x}", "name": f"s{number}", "next_fire_at": due_us}
        # An interval counts from its birth.
        made["created_at"] = due_us - DAY_S * 1_000_000
        connection.execute(statement, [made[name] for name in columns])
    connection.execute("COMMIT")
    connection.close()


@asynccontextmanager
async def opened() -> AsyncIterator[Almanac]:
    """A server that has made one task and one schedule of it, and is down."""
    house = await asyncio.to_thread(House)
    try:
        given = task_pb2.Task(name="timed", spec=spec(["/bin/true"]))
        task = house.doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=given))
        daily = schedule_pb2.Schedule(name="pattern", task_id=task.id, every=seconds(DAY_S))
        house.doors.schedules.CreateSchedule(schedule_pb2.CreateScheduleRequest(schedule=daily))
        await asyncio.to_thread(house.server.stop)
        yield Almanac(house)
    finally:
        await asyncio.to_thread(house.close)


async def at_rest(almanac: Almanac, count: int, armed: int, window_s: float) -> tuple[float, float]:
    """MiB and percent of a core that a server takes with so many schedules, so many of them due in the horizon."""
    house = almanac.house
    # What is armed must not fire while it is measured: it is due when the horizon has nearly come to it.
    soon_us = int((time.time() + ARMED_LATER_S + window_s / 2) * 1e6)
    later_us = int((time.time() + DAY_S / 2) * 1e6)

    def due_at_us(number: int) -> int:
        return soon_us + number if number < armed else later_us + number

    await asyncio.to_thread(populate, almanac, count, due_at_us)
    await asyncio.to_thread(house.start_server)
    await asyncio.sleep(window_s / 2)
    with Meter({"server": house.server.pid}).measuring() as cost:
        await asyncio.sleep(window_s)
    mib = memory_mib(house.server.pid, "VmRSS")
    await asyncio.to_thread(house.server.stop)
    return mib, 100 * cost.cpu_s["server"] / window_s


@measurement(
    "schedules at rest",
    says="100,000 schedules stored, 10,000 of them armed, none due",
    figures=(
        Figure(name="schedules memory", label="server memory for 100,000 schedules", unit="MiB", bound=50),
        Figure(name="schedules cpu", label="… CPU more than with none", unit="% of a core", bound=0.5),
    ),
    limits=Limits(full=185),
)
async def resting(round: Round) -> None:
    count, armed = round.pick(full=100_000, quick=1_000, tiny=20), round.pick(full=MOST_ARMED, quick=100, tiny=5)
    window_s = round.pick(full=15.0, quick=5.0, tiny=0.5)
    async with opened() as almanac:
        none_mib, none_cpu = await at_rest(almanac, 0, 0, window_s)
        many_mib, many_cpu = await at_rest(almanac, count, armed, window_s)
    round.record("schedules memory", many_mib - none_mib)
    round.record("schedules cpu", many_cpu - none_cpu)


async def lateness_s(almanac: Almanac, stored: int, due: int) -> list[float]:
    """How late each of so many was that were due at the same instant, among so many stored."""
    house = almanac.house
    moment_us = int(time.time() + DUE_AFTER_S + stored / 30_000) * 1_000_000

    def due_at_us(number: int) -> int:
        return moment_us if number < due else moment_us + 3_600_000_000 + number

    await asyncio.to_thread(populate, almanac, stored, due_at_us)
    await asyncio.to_thread(house.start_server)
    assert time.time() * 1e6 < moment_us, "the server started too late"
    await asyncio.sleep(moment_us / 1e6 - time.time() + 1.0)
    found: dict[str, float] = {}
    while len(found) < due:
        await asyncio.sleep(1.0)
        found |= await asyncio.to_thread(_fired, house)
    await asyncio.to_thread(house.server.stop)
    return list(found.values())


def _fired(house: House) -> dict[str, float]:
    """By run: how long after its instant it was born."""
    found, token = {}, ""
    while True:
        request = run_pb2.ListRunsRequest(page_size=1000, page_token=token)
        answer = house.doors.runs.ListRuns(request, timeout=30)
        for run in answer.runs:
            found[run.id] = (run.created_at.ToMicroseconds() - run.scheduled_time.ToMicroseconds()) / 1e6
        token = answer.next_page_token
        if not token:
            return found


def due_figures() -> tuple[Figure, ...]:
    made = []
    for name, stored in zip(NAMES, ("1,000", "100,000"), strict=True):
        about = f"1,000 due at one instant, {stored} stored"
        made += [
            Figure(name=f"due {name} p50", label=f"{about}: lateness, p50", unit="s"),
            Figure(name=f"due {name} p99", label="… p99", unit="s", bound=1.0),
            Figure(name=f"due {name} all", label="… all fired after", unit="s", bound=2.0),
        ]
    return tuple(made)


@measurement(
    "schedules due",
    says="1,000 schedules are due at the same instant, among 1,000 and among 100,000 that are stored",
    figures=due_figures(),
    limits=Limits(full=190),
)
async def due(round: Round) -> None:
    count = round.pick(full=1_000, quick=100, tiny=5)
    for name, stored in zip(NAMES, round.pick(full=(1_000, 100_000), quick=(100, 1_000), tiny=(5, 20)), strict=True):
        async with opened() as almanac:
            late = await lateness_s(almanac, stored, count)
        round.record(f"due {name} p50", statistics.median(late))
        round.record(f"due {name} p99", percentile(late, 0.99))
        round.record(f"due {name} all", max(late))
