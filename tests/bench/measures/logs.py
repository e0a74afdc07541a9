"""Log throughput: 100 MB of 100-byte lines from the call until they are stored durably, by one run and by eight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.bench.measures.children import printing
from tests.bench.processes import children, memory_mib
from tests.bench.registry import Figure, Limits, Once, Round, measurement
from tests.bench.systems import Setup

SECRETS = (0, 3, 10)
BOUND_MIB = 150.0


def figures(runs: int) -> tuple[Figure, ...]:
    """One run has goals of speed; eight at once are shown, with the goals of memory."""
    who = "one run" if runs == 1 else f"{runs} runs at once"
    made = []
    for secrets in SECRETS:
        ratio = 0.4 if runs == 1 and secrets < 10 else None
        speed = 50.0 if runs == 1 and secrets == 10 else None
        label = f"100-byte lines → durable, {who}, {secrets} secrets masked"
        name = key(runs, secrets)
        made.append(Figure(name=name, label=label, unit="MB/s", more_is_better=True, ratio=ratio, bound=speed))
    for process, bound in (("server", BOUND_MIB), ("agent", BOUND_MIB), ("largest shim", None)):
        label = f"peak memory of the {process}, {who}"
        made.append(Figure(name=f"{key(runs, 0)} peak {process}", label=label, unit="MiB", bound=bound))
    return tuple(made)


def key(runs: int, secrets: int) -> str:
    return f"log {secrets}" if runs == 1 else f"log {runs} × {secrets}"


@asynccontextmanager
async def shims_watched(round: Round) -> AsyncIterator[list[float]]:
    """The peak of the largest shim so far, looked at ten times a second; empty where there are no shims."""
    peak: list[float] = []

    async def watch(fork_server: int) -> None:
        while True:
            for pid in await asyncio.to_thread(children, fork_server):
                try:
                    peak[:] = [max(*peak, memory_mib(pid, "VmHWM"), 0.0)]
                except (OSError, AssertionError):
                    continue  # it has ended
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as tasks:
        found = round.system.processes().get("fork server")
        watching = tasks.create_task(watch(found), name="shims") if found else None
        yield peak
        if watching:
            watching.cancel()


async def printed(round: Round, runs: int, size: int, secrets: int) -> float:
    """So many runs print size bytes in all: MB/s from the first call to the last stored byte."""
    each = size // runs // 100 * 100
    begin = time.monotonic()
    names = [await round.system.submit(printing(each), secrets=secrets) for _ in range(runs)]
    stored = await asyncio.gather(*(round.system.wait(name) for name in names))
    took_s = time.monotonic() - begin
    for found in stored:
        # A masked secret may be shorter than what it masks, once in 600 lines.
        assert found == each or (secrets and each * 0.99 <= found <= each), f"{found} of {each} bytes were stored"
    return each * runs / 1e6 / took_s


def logs(runs: int) -> Once:
    async def once(round: Round) -> None:
        size = round.pick(full=100_000_000, quick=20_000_000, tiny=1_000_000)
        peaks: dict[str, float] = {}
        plain = round.system.name == "floor"
        for secrets in SECRETS:
            if plain and secrets:
                round.record(key(runs, secrets), round.values[key(runs, 0)])  # it masks nothing: the same work
                continue
            with round.metered() as cost:
                async with shims_watched(round) as shims:
                    speed = await printed(round, runs, size, secrets)
            round.record(key(runs, secrets), speed)
            for process, peak in (*cost.peak_mib.items(), *(("largest shim", peak) for peak in shims)):
                peaks[process] = max(peaks.get(process, 0.0), peak)
        for process in ("server", "agent", "largest shim"):
            if process in peaks:
                round.record(f"{key(runs, 0)} peak {process}", peaks[process])

    return once


for runs, limits in ((1, Limits(full=75, quick=15)), (8, Limits(full=75))):
    name = "log" if runs == 1 else f"log {runs}"
    says = "one run" if runs == 1 else f"{runs} runs at once"
    measurement(
        name,
        says=f"{says}: 100 MB of 100-byte lines, with 0, 3 and 10 secrets masked, until stored durably",
        figures=figures(runs),
        limits=limits,
        setup=Setup(),
    )(logs(runs))
