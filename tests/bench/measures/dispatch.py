"""Dispatch latency: how long a run waits for its first instruction, and until its end is recorded."""

from __future__ import annotations

import statistics
import time

from tests.bench.measures.children import Stamps, percentile, stamping
from tests.bench.registry import Figure, Limits, Round, measurement
from tests.bench.systems import Setup

FIGURES = (
    Figure(name="dispatch p50", label="CreateRun → first instruction, p50", unit="ms", ratio=3),
    Figure(name="dispatch p99", label="… p99", unit="ms", bound=20),
    Figure(name="recorded p50", label="CreateRun → end recorded, p50", unit="ms"),
    Figure(name="recorded p99", label="… p99", unit="ms"),
)


@measurement(
    "dispatch",
    says="runs one after another: from the call to the child's first instruction, and to its recorded end",
    figures=FIGURES,
    limits=Limits(full=90, quick=15),
    setup=Setup(),
)
async def dispatch(round: Round) -> None:
    stamps = Stamps(round.directory / "stamps", hold=True)
    started, recorded = [], []
    for _ in range(round.pick(full=300, quick=60, tiny=3)):
        begin = time.time()
        run = await round.system.submit(stamping(stamps.path))
        await round.system.wait(run, settled=False)
        recorded.append((time.time() - begin) * 1000)
        started.append((await stamps.stamp() - begin) * 1000)
        await round.system.wait(run)
    stamps.close()
    for name, waits in (("dispatch", started), ("recorded", recorded)):
        round.record(f"{name} p50", statistics.median(waits))
        round.record(f"{name} p99", percentile(waits, 0.99))
