"""Keeps a product busy: no-op runs a second and logs in MB/s, as far as the host carries them.

    BANKSMAN_TOKEN=... python -m tests.bench.load TARGET RUNS_PER_S LOG_BYTES_PER_S

Says "flowing" once logs flow, goes on until its stdin ends, cancels its log runs, and then says as JSON what flowed.
It is a program of its own, so that its work does not delay those who measure. It never queues more than 64 runs.
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import asyncio
import json
import sys
import time

from banksman.v1 import log_pb2, run_pb2, spec_pb2, system_pb2

from tests.bench.clients import Stubs
from tests.bench.measures.children import printing
from tests.scenarios.specs import seconds, spec
from tests.waiting import wait_for_async

LOG_RUNS = 2
MOST_QUEUED = 64
ENDLESS_BYTES = 100_000_000_000
LOG_LIMIT_BYTES = 10 << 30
PERIOD_S = 0.05


class Load:
    def __init__(self, stubs: Stubs, runs_per_s: float, log_bytes_per_s: int) -> None:
        self._stubs, self._runs_per_s, self._log_bytes_per_s = stubs, runs_per_s, log_bytes_per_s
        self._logs: list[str] = []
        self._done = 0
        self._over = asyncio.Event()

    async def keep(self) -> dict[str, float]:
        """Until stdin ends; answers runs and log bytes a second that flowed."""
        await asyncio.get_running_loop().connect_read_pipe(lambda: _UntilEnd(self._over), sys.stdin)
        per_run = self._log_bytes_per_s // LOG_RUNS
        endless = spec(printing(ENDLESS_BYTES, bytes_per_s=per_run), log_limit_bytes=LOG_LIMIT_BYTES)
        for _ in range(LOG_RUNS if per_run else 0):
            self._logs.append(await self._create(endless))
        if self._logs:
            await wait_for_async(self._log_bytes, what="logs flow")
        begin, bytes_before = time.monotonic(), await self._log_bytes()
        print("flowing", flush=True)
        async with asyncio.TaskGroup() as tasks:
            await self._submit(tasks)
            took_s, log_bytes = time.monotonic() - begin, await self._log_bytes() - bytes_before
            done = self._done
        for run in self._logs:
            await self._stubs.runs.CancelRun(run_pb2.CancelRunRequest(run=run))
        for run in self._logs:
            await self._wait(run, run_pb2.WAIT_FOR_SETTLED)  # what is spooled would disturb whoever comes next
        return {"runs_per_s": done / took_s, "log_bytes_per_s": log_bytes / took_s}

    async def _submit(self, tasks: asyncio.TaskGroup) -> None:
        """Ever so many a period; what the host did not carry is not made up for."""
        room, owed = asyncio.Semaphore(MOST_QUEUED), 0.0
        while not self._over.is_set():
            owed = min(owed + self._runs_per_s * PERIOD_S, self._runs_per_s * 2 * PERIOD_S)
            while owed >= 1 and not room.locked():
                await room.acquire()
                tasks.create_task(self._one(room), name="run")
                owed -= 1
            await asyncio.sleep(PERIOD_S)

    async def _one(self, room: asyncio.Semaphore) -> None:
        try:
            await self._wait(await self._create(spec(["/bin/true"])))
            self._done += 1
        finally:
            room.release()

    async def _create(self, wanted: spec_pb2.RunSpec) -> str:
        return str((await self._stubs.runs.CreateRun(run_pb2.CreateRunRequest(spec=wanted))).id)

    async def _wait(self, run: str, wanted: run_pb2.WaitFor.ValueType = run_pb2.WAIT_FOR_FINISHED) -> None:
        await self._stubs.runs.WaitRun(run_pb2.WaitRunRequest(run=run, wait_for=wanted, timeout=seconds(60)))

    async def _log_bytes(self) -> int:
        """Durable in the log runs so far: a run that still prints tells it only by its log."""
        return sum([await self._durable(run) for run in self._logs])

    async def _durable(self, run: str) -> int:
        offset = 0
        async for item in self._stubs.logs.ReadLogs(log_pb2.ReadLogsRequest(run=run, tail_lines=1)):
            offset = max(offset, item.batch.next_offset)
        return offset


class _UntilEnd(asyncio.Protocol):
    def __init__(self, over: asyncio.Event) -> None:
        self._over = over

    def connection_lost(self, error: Exception | None) -> None:
        self._over.set()


async def main(target: str, runs_per_s: str, log_bytes_per_s: str) -> None:
    stubs = Stubs(target, os.environ["BANKSMAN_TOKEN"])
    try:
        await stubs.system.GetStatus(system_pb2.GetStatusRequest())
        print(json.dumps(await Load(stubs, float(runs_per_s), int(log_bytes_per_s)).keep()), flush=True)
    finally:
        await stubs.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
