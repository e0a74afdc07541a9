"""Shims: how soon one runs its child, and what it takes in memory, alone and among others."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import re
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence

from runner_agent.execution.shim_link import Reason, Started
from tests.bench.registry import Figure, Limits, Round, measurement
from tests.integration.shim.host import Host, open_host, step

FIGURES = (
    Figure(name="shim start p50", label="start order → the child's exec is reported, p50", unit="ms", bound=5),
    Figure(name="shim start p90", label="… p90", unit="ms"),
    Figure(name="shim 1 private", label="one live shim: private memory", unit="MiB", bound=2),
    Figure(name="shim 1 pss", label="… proportional memory", unit="MiB"),
    Figure(name="shim 8 private", label="eight live shims: private memory each, the largest", unit="MiB", bound=2),
    Figure(name="shim 8 pss", label="… proportional memory each, the mean", unit="MiB", bound=3),
)
LIVE = 8
MIB = 1024


def memory_kib(pid: int) -> tuple[int, int]:
    """(private, proportional) memory of a process."""
    found = dict(re.findall(r"(\w+):\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()))
    return int(found["Private_Clean"]) + int(found["Private_Dirty"]), int(found["Pss"])


async def started_ms(host: Host, run_id: str) -> float:
    """One start and end: from the order to the shim's word that the child was executed."""
    begin = time.perf_counter()
    run = await host.start(step("/bin/true"), run_id=run_id)
    await run.until(Started)
    took_ms = (time.perf_counter() - begin) * 1000
    await run.end()
    return took_ms


async def live(host: Host, count: int) -> Sequence[tuple[int, int]]:
    """The memory of so many shims whose children sleep."""
    runs = [await host.start(step("sleep", "1000"), run_id=f"live-{count}-{number}") for number in range(count)]
    for run in runs:
        await run.until(Started)
    await asyncio.sleep(0.2)
    found = [memory_kib(run.link.shim_pid) for run in runs]
    for run in runs:
        run.link.stop(Reason.USER_CANCEL, signal.SIGKILL, 0.0)
    for run in runs:
        await run.end()
    return found


@measurement(
    "shims",
    says="attempts under real shims, without agent and control plane",
    figures=FIGURES,
    limits=Limits(full=40, quick=10),
)
async def shims(round: Round) -> None:
    times = round.pick(full=200, quick=50, tiny=3)
    # A path short enough for sockets.
    place = pathlib.Path(tempfile.mkdtemp(prefix="bnk-", dir="/tmp"))
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        host = await stack.enter_async_context(open_host(place / "state"))
        waits = sorted([await started_ms(host, f"start-{number}") for number in range(times)])
        round.record("shim start p50", statistics.median(waits))
        round.record("shim start p90", waits[int(0.9 * (len(waits) - 1))])
        for count in (1, LIVE):
            found = await live(host, count)
            round.record(f"shim {count} private", max(private for private, _ in found) / MIB)
            round.record(f"shim {count} pss", statistics.mean(pss for _, pss in found) / MIB)
