"""At rest: what a server and an agent that nobody asks anything take."""

from __future__ import annotations

import asyncio

from tests.bench.measures.loads import product
from tests.bench.processes import memory_mib
from tests.bench.registry import Figure, Limits, Round, measurement
from tests.bench.systems import Setup

FIGURES = (
    Figure(name="rest agent memory", label="agent at rest: memory", unit="MiB", bound=60),
    Figure(name="rest agent cpu", label="… CPU", unit="% of a core", bound=0.5),
    Figure(name="rest server memory", label="server at rest: memory", unit="MiB"),
    Figure(name="rest server cpu", label="… CPU", unit="% of a core"),
    Figure(name="rest fork server memory", label="fork server at rest: memory, shared with its shims", unit="MiB"),
)


@measurement(
    "rest",
    says="one server and one agent, connected, without runs",
    figures=FIGURES,
    limits=Limits(full=50),
    setup=Setup(floor=False),
)
async def rest(round: Round) -> None:
    seconds = round.pick(full=10.0, quick=3.0, tiny=0.2)
    with round.metered() as cost:
        await asyncio.sleep(seconds)
    pids = product(round).processes()
    for name in ("agent", "server"):
        round.record(f"rest {name} cpu", cost.cpu_s[name] / seconds * 100)
    for name in ("agent", "server", "fork server"):
        round.record(f"rest {name} memory", memory_mib(pids[name], "VmRSS"))
