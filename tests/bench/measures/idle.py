"""Runners that do nothing: what each costs the control plane, and how soon all are back when it was restarted.

The runners' rows are written by the product's own functions while the server is down, and their credentials are made
with its key: to let ten thousand hosts join one by one would take longer than everything that is measured here.
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import sys
import time
from datetime import UTC, datetime, timedelta

from control_plane.auth.credentials import CredentialPress
from control_plane.clock import SystemClock
from control_plane.domain.ids import PrincipalId, RunnerId
from control_plane.domain.runner import Runner
from control_plane.rooms import RUNNER_KEY
from control_plane.storage import sqlite, writes
from tests.bench.processes import Meter, memory_mib
from tests.bench.registry import Figure, Limits, Round, measurement
from tests.scenarios.house import House
from tests.scenarios.program import Program

SIZES = (1_000, 5_000, 10_000)
NAMES = ("1k", "5k", "10k")
CPU_GOALS = (15.0, None, 35.0)
STARTUP_WAITS = 150.0
STOP_S = 90.0


def figures() -> tuple[Figure, ...]:
    made = []
    for name, size, cpu in zip(NAMES, SIZES, CPU_GOALS, strict=True):
        runners = f"{size:,} idle runners"
        made += [
            Figure(name=f"idle {name} memory", label=f"{runners}: server memory each", unit="KiB", bound=64),
            Figure(name=f"idle {name} cpu", label="… server CPU, with heartbeats", unit="% of a core", bound=cpu),
            Figure(name=f"idle {name} beat", label="… server CPU a heartbeat", unit="µs"),
            Figure(name=f"idle {name} back", label="… all back after a server restart", unit="s"),
        ]
    return tuple(made)


class Crowd:
    """A server that knows so many runners, and the process in which they live."""

    def __init__(self, house: House, count: int) -> None:
        self.house, self._count = house, count
        self._credentials = house.root / "credentials"
        house.server.stop()
        self._enrol()
        house.start_server()
        self._fleets: list[Fleet] = []

    def _enrol(self) -> None:
        """Rows and credentials of all of them."""
        clock, now = SystemClock(), datetime.now(UTC)
        press = CredentialPress((self.house.server_directory / RUNNER_KEY).read_bytes(), lifetime_s=86_400.0)
        runners = [
            Runner(
                id=RunnerId(clock.new_id()),
                name=f"idle-{number}",
                slots=4,
                public_key=number.to_bytes(32, "big"),
                created_at=now - timedelta(days=1),
            )
            for number in range(self._count)
        ]
        engines = sqlite.open_engines(self.house.server_directory / sqlite.DATABASE_NAME)
        with engines.writer.begin() as connection:
            for runner in runners:
                writes.insert_runner(connection, runner, created_by=PrincipalId("bench"))
        engines.dispose()
        lines = [f"{runner.id} {press.issue(runner, now)[0]}" for runner in runners]
        self._credentials.write_text("\n".join(lines))

    def grow_to(self, count: int) -> None:
        """More of them come, in a process of their own."""
        known = sum(fleet.count for fleet in self._fleets)
        self._fleets.append(Fleet(self.house, self._credentials, known, count - known, len(self._fleets)))

    async def all_there(self, *, since: float = 0.0, timeout_s: float = STARTUP_WAITS) -> float:
        """When (monotonic) the last of them was in a session, by what they told since then."""
        async with asyncio.timeout(timeout_s):
            while True:
                found = [fleet.newest() for fleet in self._fleets]
                if all(fleet.is_there(line, since) for fleet, line in zip(self._fleets, found, strict=True)):
                    return max(line["at"] for line in found)
                await asyncio.sleep(0.1)

    def close(self) -> None:
        for fleet in self._fleets:
            fleet.close()


class Fleet:
    """One process of tests.bench.fleet."""

    def __init__(self, house: House, credentials: pathlib.Path, first: int, count: int, number: int) -> None:
        self.count = count
        mine = house.root / f"credentials-{number}"
        lines = credentials.read_text().splitlines()[first : first + count]
        mine.write_text("\n".join(lines))
        argv = [sys.executable, "-m", "tests.bench.fleet", house.admin.target, str(mine), str(count)]
        self._program = Program(f"fleet-{number}", argv, house.root)
        self._program.start()

    def newest(self) -> dict[str, float]:
        """What it told last."""
        self._program.expect_running()
        lines = [line for line in self._program.said().splitlines() if line.startswith("{") and line.endswith("}")]
        found: dict[str, float] = json.loads(lines[-1]) if lines else {"there": 0, "sessions": 0, "at": 0.0}
        return found

    def is_there(self, line: dict[str, float], since: float) -> bool:
        return line["there"] == self.count and line["at"] > since

    def close(self) -> None:
        if self._program.running:
            self._program.kill_dash_nine()


def period_s(count: int) -> float:
    """The product's own (Timing.heartbeat_s)."""
    return max(5.0, count / 500)


async def stage(round: Round, crowd: Crowd, name: str, count: int, base_mib: float) -> None:
    """One size: all come, beat for a while, and come back."""
    server = crowd.house.server
    crowd.grow_to(count)
    await crowd.all_there()
    # Until everybody has been told the period that goes with so many: those who were there had half of it at most.
    await asyncio.sleep(round.pick(full=period_s(count // 2), quick=5.0, tiny=0.1))
    window_s = round.pick(full=max(10.0, period_s(count)), quick=10.0, tiny=0.5)
    with Meter({"server": server.pid}).measuring() as cost:
        begin = time.monotonic()
        await asyncio.sleep(window_s)
        took_s = time.monotonic() - begin
    beats = count * took_s / period_s(count)
    round.record(f"idle {name} memory", (memory_mib(server.pid, "VmRSS") - base_mib) * 1024 / count)
    round.record(f"idle {name} cpu", 100 * cost.cpu_s["server"] / took_s)
    round.record(f"idle {name} beat", 1e6 * cost.cpu_s["server"] / beats)
    await asyncio.to_thread(server.stop, STOP_S)
    begin = time.monotonic()
    await asyncio.to_thread(crowd.house.start_server)
    round.record(f"idle {name} back", await crowd.all_there(since=begin) - begin)


@measurement(
    "idle runners",
    says="1,000, 5,000 and 10,000 runners that do nothing, a connection each, at the product's own heartbeat period",
    figures=figures(),
    limits=Limits(full=640),
)
async def idle(round: Round) -> None:
    sizes = round.pick(full=SIZES, quick=(100, 200, 300), tiny=(3, 5, 8))
    house = await asyncio.to_thread(House)
    crowd = None
    try:
        crowd = await asyncio.to_thread(Crowd, house, sizes[-1])
        base_mib = memory_mib(house.server.pid, "VmRSS")
        for name, size in zip(NAMES, sizes, strict=True):
            await stage(round, crowd, name, size, base_mib)
    finally:
        if crowd is not None:
            await asyncio.to_thread(crowd.close)
        await asyncio.to_thread(house.close)
