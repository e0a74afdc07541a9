"""Throughput: submits accepted, and queued no-op runs done, with what they cost each process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from tests.bench.registry import Figure, Limits, Round, measurement
from tests.bench.systems import Setup

CLIENTS = 32
PROCESSES = {"server": "server", "agent": "agent", "fork server": "fork server, shims and children"}


async def submit_all(round: Round, runs: int) -> float:
    """32 clients submit no-op runs; answers submits per second."""
    left: Iterator[int] = iter(range(runs))

    async def client() -> None:
        for _ in left:
            await round.system.submit(["/bin/true"])

    begin = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number in range(CLIENTS):
            tasks.create_task(client(), name=f"client-{number}")
    return runs / (time.monotonic() - begin)


async def queued(round: Round, runs: int) -> tuple[float, float]:
    """Submits per second while nothing starts, then runs per second while nothing is submitted."""
    await round.system.pause()
    submits = await submit_all(round, runs)
    begin = time.monotonic()
    await round.system.resume()
    await round.system.idle()
    return submits, runs / (time.monotonic() - begin)


@measurement(
    "runs",
    says=f"{CLIENTS} clients submit while nothing starts; then 8 slots do what is queued",
    figures=(
        Figure(
            name="submits", label=f"submits, {CLIENTS} at once", unit="/s", more_is_better=True, ratio=0.4, first=0.3
        ),
        Figure(
            name="runs 8", label="queued no-op runs, 8 slots", unit="runs/s", more_is_better=True, ratio=0.45, first=0.3
        ),
        *(
            Figure(name=f"CPU a run, {process}", label=f"CPU a run with its submit, {what}", unit="ms")
            for process, what in PROCESSES.items()
        ),
        Figure(name="runs peak server", label="peak memory of the server, many runs", unit="MiB"),
    ),
    limits=Limits(full=90, quick=20),
    setup=Setup(),
)
async def runs_8(round: Round) -> None:
    runs = round.pick(full=1000, quick=300, tiny=8)
    with round.metered() as cost:
        submits, speed = await queued(round, runs)
    round.record("submits", submits)
    round.record("runs 8", speed)
    round.record("runs peak server", cost.peak_mib["server"])
    for process in PROCESSES:
        if process in cost.cpu_s:
            round.record(f"CPU a run, {process}", cost.cpu_s[process] * 1000 / runs)


def shown(slots: int, runners: int) -> None:
    """Registers queued runs on so many slots and runners; shown without a goal."""
    key = f"runs {slots}" if runners == 1 else f"runs {runners} × {slots}"
    where = f"{slots} slots" if runners == 1 else f"{runners} runners of {slots} slots"

    @measurement(
        key,
        says=f"as runs, with {where}",
        figures=(Figure(name=key, label=f"queued no-op runs, {where}", unit="runs/s", more_is_better=True),),
        limits=Limits(full=45),
        setup=Setup(slots=slots, runners=runners),
    )
    async def once(round: Round) -> None:
        _, speed = await queued(round, round.pick(full=500, quick=200, tiny=8))
        round.record(key, speed)


for slots, runners in ((4, 1), (16, 1), (4, 2), (8, 2), (16, 2)):
    shown(slots, runners)
