"""Cancels: from the call to the first signal, and to the death of a child that obeys."""

from __future__ import annotations

import asyncio
import statistics
import time

from tests.bench.measures.children import Stamps, holding, obeying, percentile
from tests.bench.registry import Figure, Limits, Round, measurement
from tests.bench.systems import Setup

FIGURES = (
    Figure(name="cancel signal p50", label="cancel → first signal, p50", unit="ms"),
    Figure(name="cancel signal p99", label="… p99", unit="ms"),
    Figure(name="cancel dead p50", label="cancel → dead, p50", unit="ms", ratio=2.5),
    Figure(name="cancel dead p99", label="… p99", unit="ms"),
)


async def signalled(round: Round) -> float:
    """One cancel: ms until SIGTERM is in a child that waits for it."""
    stamps = Stamps(round.directory / "signal", hold=True)
    run = await round.system.submit(obeying(stamps.path))
    await stamps.line()
    begin = time.time()
    await round.system.cancel(run)
    waited = (await stamps.stamp() - begin) * 1000
    await round.system.wait(run)
    stamps.close()
    return waited


async def died(round: Round) -> float:
    """One cancel: ms until a child that obeys SIGTERM is dead."""
    stamps = Stamps(round.directory / "death", hold=False)
    run = await round.system.submit(holding(stamps.path))
    await stamps.line()
    begin = time.time()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(round.system.cancel(run), name="cancel")
        waited = (await stamps.hangup() - begin) * 1000
    await round.system.wait(run)
    stamps.close()
    return waited


@measurement(
    "cancel",
    says="runs one after another are cancelled while they run",
    figures=FIGURES,
    limits=Limits(full=50, quick=12),
    setup=Setup(),
)
async def cancel(round: Round) -> None:
    times = round.pick(full=60, quick=15, tiny=2)
    for name, one in (("signal", signalled), ("dead", died)):
        waits = [await one(round) for _ in range(times)]
        round.record(f"cancel {name} p50", statistics.median(waits))
        round.record(f"cancel {name} p99", percentile(waits, 0.99))
