"""Throughput: submits accepted, and queued no-op runs done, with what they cost each process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from tests.bench.registry import Figure, Limits, Once, Round, measurement
from tests.bench.systems import Setup

CLIENTS = 32
PROCESSES = ("server", "agent", "fork server")


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


def throughput(slots: int, runners: int) -> tuple[str, tuple[Figure, ...], Once]:
    """The figures of queued runs with so many slots on so many runners."""
    key = f"runs {slots}" if runners == 1 else f"runs {runners} × {slots}"
    where = f"{slots} slots" if runners == 1 else f"{runners} runners of {slots} slots"
    bound_here = slots == 8 and runners == 1
    ratios = {"ratio": 0.45, "first": 0.3} if bound_here else {}
    figures = [Figure(name=key, label=f"queued no-op runs, {where}", unit="runs/s", more_is_better=True, **ratios)]
    if bound_here:
        more = {"more_is_better": True, "ratio": 0.4, "first": 0.3}
        figures.insert(0, Figure(name="submits", label=f"submits, {CLIENTS} at once", unit="/s", **more))
        figures += [
            Figure(name=f"CPU a run, {process}", label=f"CPU a run, {process}{note}", unit="ms")
            for process, note in zip(PROCESSES, ("", "", ", shims and children"), strict=True)
        ]
        figures += [Figure(name="runs peak server", label="peak memory of the server, many runs", unit="MiB")]

    async def once(round: Round) -> None:
        runs = round.pick(full=2000, quick=300, tiny=8)
        await round.system.pause()
        submits = await submit_all(round, runs)
        with round.metered() as cost:
            begin = time.monotonic()
            await round.system.resume()
            await round.system.idle()
            took_s = time.monotonic() - begin
        round.record(key, runs / took_s)
        if bound_here:
            round.record("submits", submits)
            for process in PROCESSES:
                if process in cost.cpu_s:
                    round.record(f"CPU a run, {process}", cost.cpu_s[process] * 1000 / runs)
            round.record("runs peak server", cost.peak_mib["server"])

    return key, tuple(figures), once


for slots, runners in ((8, 1), (4, 1), (16, 1), (4, 2), (8, 2), (16, 2)):
    name, figures, once = throughput(slots, runners)
    measurement(
        name,
        says=f"{CLIENTS} clients submit while nothing starts; then {runners} × {slots} slots do what is queued",
        figures=figures,
        limits=Limits(full=90, quick=25 if (slots, runners) == (8, 1) else None),
        setup=Setup(slots=slots, runners=runners),
    )(once)
