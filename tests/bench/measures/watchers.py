"""Watchers: how late a written line is printed by `banksman run logs -f`, and fifty followers of one log."""

from __future__ import annotations

import asyncio
import statistics
import time
from asyncio.subprocess import DEVNULL, PIPE

from banksman.v1 import log_pb2

from tests.bench.measures.children import Stamps, percentile, printing, ticking
from tests.bench.measures.loads import flowing, product
from tests.bench.registry import Figure, Limits, Round, measurement
from tests.bench.systems import Setup

FOLLOWERS = 50
ALONE = Setup(slots=16, floor=False)


async def printed_lags(round: Round, times: int) -> list[float]:
    """ms from the write in the child to the print of a following CLI, line by line."""
    argv, environment = product(round).house.banksman()
    gate = Stamps(round.directory / "gate", hold=True)
    run = await round.system.submit(ticking(times, 0.02, gate.path))
    follower = await asyncio.create_subprocess_exec(
        *argv, "run", "logs", "-f", run, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, env=environment
    )
    assert follower.stdout is not None
    lags: list[float] = []
    try:
        await follower.stdout.readline()  # the first line was there before: now it follows
        gate.open_gate()
        lags += [(time.time() - float(line.split()[0])) * 1000 async for line in follower.stdout]
        await follower.wait()
    finally:
        if follower.returncode is None:
            follower.kill()
            await follower.wait()
        gate.close()
    await round.system.wait(run)
    assert len(lags) == times, f"{len(lags)} of {times} lines were printed"
    return lags


def record(round: Round, name: str, lags: list[float]) -> None:
    round.record(f"{name} p50", statistics.median(lags))
    round.record(f"{name} p99", percentile(lags, 0.99))


@measurement(
    "watch",
    says="a CLI follows a log: from the write in the child to the printed line, nothing else going on",
    figures=(
        Figure(name="watch p50", label="line written → printed by a follower, p50", unit="ms", bound=20),
        Figure(name="watch p99", label="… p99", unit="ms", bound=100),
    ),
    limits=Limits(full=40, quick=10),
    setup=ALONE,
)
async def watch(round: Round) -> None:
    record(round, "watch", await printed_lags(round, round.pick(full=300, quick=60, tiny=5)))


@measurement(
    "watch under load",
    says="the same while 50 MB/s of other runs' logs flow, as far as the host carries them",
    figures=(
        Figure(name="watch loaded p50", label="line written → printed, 50 MB/s flowing, p50", unit="ms", bound=20),
        Figure(name="watch loaded p99", label="… p99", unit="ms", bound=100),
        Figure(name="watch load", label="… logs that flowed meanwhile", unit="MB/s", more_is_better=True),
    ),
    limits=Limits(full=90),
    setup=ALONE,
)
async def watch_loaded(round: Round) -> None:
    async with flowing(round, runs_per_s=0) as flowed:
        lags = await printed_lags(round, round.pick(full=300, quick=60, tiny=5))
    record(round, "watch loaded", lags)
    round.record("watch load", flowed.log_mb_per_s)


class Follower:
    """Reads one log to its end."""

    def __init__(self, round: Round, run: str) -> None:
        self._stub, self._run = product(round).stubs.logs, run
        self.first = asyncio.Event()
        self.bytes = 0
        self.lags: list[float] = []

    async def follow(self) -> None:
        async for item in self._stub.ReadLogs(log_pb2.ReadLogsRequest(run=self._run, follow=True)):
            now = time.time()
            for record in item.batch.records:
                self.bytes += len(record.data)
                if record.data.endswith(b"tick\n"):
                    self.lags += [(now - float(line.split()[0])) * 1000 for line in record.data.splitlines()]
            self.first.set()


async def followed(round: Round, argv: list[str], gate: Stamps | None = None) -> list[Follower]:
    """All followers of one run, once they have read it to its end."""
    run = await round.system.submit(argv)
    followers = [Follower(round, run) for _ in range(round.pick(full=FOLLOWERS, quick=FOLLOWERS, tiny=5))]
    async with asyncio.TaskGroup() as tasks:
        for number, follower in enumerate(followers):
            tasks.create_task(follower.follow(), name=f"follower-{number}")
        if gate:
            for follower in followers:
                await follower.first.wait()
            gate.open_gate()
    return followers


@measurement(
    "followers",
    says=f"{FOLLOWERS} clients follow one log",
    figures=(
        Figure(name="followers p50", label=f"line written → received, {FOLLOWERS} followers, p50", unit="ms"),
        Figure(name="followers p99", label="… p99", unit="ms"),
        Figure(name="followers speed", label="… bytes received by all", unit="MB/s", more_is_better=True),
        Figure(name="followers peak", label="… peak memory of the server", unit="MiB", bound=150),
    ),
    limits=Limits(full=80),
    setup=ALONE,
)
async def followers(round: Round) -> None:
    gate = Stamps(round.directory / "gate", hold=True)
    times = round.pick(full=60, quick=20, tiny=3)
    size = round.pick(full=10_000_000, quick=2_000_000, tiny=200_000)
    with round.metered() as cost:
        ticked = await followed(round, ticking(times, 0.1, gate.path), gate)
        begin = time.monotonic()
        read = await followed(round, printing(size))
        took_s = time.monotonic() - begin
    gate.close()
    assert all(one.bytes == size for one in read), "a follower has not received all"
    record(round, "followers", [lag for one in ticked for lag in one.lags[1:]])
    round.record("followers speed", sum(one.bytes for one in read) / 1e6 / took_s)
    round.record("followers peak", cost.peak_mib["server"])
