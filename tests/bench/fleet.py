"""Very many idle runners in one process: the real protocol on a connection each, and nothing behind it.

    python -m tests.bench.fleet TARGET CREDENTIALS COUNT

CREDENTIALS has a runner's id and credential per line. Each runner says Hello, sends heartbeats at the period that it
is told, and comes back when its session ends: as it was told, or with the agent's own back-off. The agent's channel
options apply. It writes a line of JSON when something has changed, twice a second at most: how many are in a session,
how many sessions there have been, and when that was (monotonic seconds).
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import asyncio
import contextlib
import json
import pathlib
import random
import sys
import time

import grpc
from banksman.v1 import session_pb2 as pb
from banksman.v1 import session_pb2_grpc

from runner_agent.domain import backoff
from runner_agent.session.channel import CHANNEL_OPTIONS

TOLD_EVERY_S = 0.5
# They do not come all at the same moment, as hosts do not.
ARRIVALS_PER_S = 1_000
HELLOS_AT_ONCE = 200
# How a session ends that nobody said goodbye to.
BROKEN = (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError, TimeoutError)


class Fleet:
    """What all runners of this process share."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.there = 0
        self.sessions = 0
        # So many at a time are on their way: as many processes of their own would be scheduled by their kernels.
        self.arriving = asyncio.Semaphore(HELLOS_AT_ONCE)

    async def tell(self) -> None:
        told = (-1, -1)
        while True:
            now = (self.there, self.sessions)
            if now != told:
                told = now
                line = {"there": self.there, "sessions": self.sessions, "at": time.monotonic()}
                print(json.dumps(line), flush=True)
            await asyncio.sleep(TOLD_EVERY_S)


class Runner:
    """One idle runner."""

    def __init__(self, fleet: Fleet, runner_id: str, credential: str) -> None:
        self._fleet, self._credential = fleet, credential
        self._directory_id = f"directory of {runner_id}"
        self._seq = 0

    async def live(self, late_s: float) -> None:
        """For ever."""
        await asyncio.sleep(late_s)
        failures = 0
        while True:
            pause_s = None
            with contextlib.suppress(*BROKEN):
                pause_s = await self._session()
                failures = 0
            if pause_s is None:
                pause_s = backoff.delay_s(failures, random.random())
                failures += 1
            await asyncio.sleep(pause_s)

    async def _session(self) -> float | None:
        """One session; how long to stay away, if that was said."""
        async with contextlib.AsyncExitStack() as stack:
            async with self._fleet.arriving, asyncio.timeout(60):
                channel = grpc.aio.insecure_channel(self._fleet.target, options=CHANNEL_OPTIONS)
                await stack.enter_async_context(channel)
                metadata = (("authorization", f"Bearer {self._credential}"),)
                call = session_pb2_grpc.RunnerSessionServiceStub(channel).Session(metadata=metadata)
                await call.write(pb.SessionRequest(hello=self._hello()))
                first = await call.read()
            if first is grpc.aio.EOF or not first.HasField("welcome"):
                return None
            self._fleet.there += 1
            self._fleet.sessions += 1
            period_s = first.welcome.heartbeat_interval.ToMilliseconds() / 1000
            beats = asyncio.create_task(self._beat(call, period_s), name="heartbeats")
            try:
                return await self._listen(call)
            finally:
                self._fleet.there -= 1
                beats.cancel()
                call.cancel()

    def _hello(self) -> pb.Hello:
        return pb.Hello(
            protocol_min=1,
            protocol_max=1,
            agent_version="fleet",
            labels={"os": "linux", "arch": "x86_64"},
            slots=4,
            boot_id="boot",
            state_directory_id=self._directory_id,
        )

    async def _beat(self, call: grpc.aio.StreamStreamCall, period_s: float) -> None:
        # A period begins when a session does, so that beats stay as spread as arrivals were.
        self._period_s = period_s
        while True:
            await asyncio.sleep(self._period_s)
            self._seq += 1
            beat = pb.Heartbeat(seq=self._seq, free_slots=4, load=0.1, disk_free_bytes=1 << 40)
            with contextlib.suppress(*BROKEN):
                await call.write(pb.SessionRequest(heartbeat=beat))

    async def _listen(self, call: grpc.aio.StreamStreamCall) -> float | None:
        while (said := await call.read()) is not grpc.aio.EOF:
            field = said.WhichOneof("message")
            if field == "heartbeat_ack":
                self._period_s = said.heartbeat_ack.next_interval.ToMilliseconds() / 1000
            elif field == "goodbye":
                after_s = said.goodbye.reconnect_after.ToMilliseconds() / 1000
                return after_s + random.random() * said.goodbye.jitter.ToMilliseconds() / 1000
        return None


async def main(target: str, credentials: pathlib.Path, count: int) -> None:
    """All runners of this process."""
    fleet = Fleet(target)
    lines = [line.split() for line in credentials.read_text().splitlines()[:count]]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fleet.tell(), name="tell")
        for number, (runner_id, credential) in enumerate(lines):
            runner = Runner(fleet, runner_id, credential)
            tasks.create_task(runner.live(number / ARRIVALS_PER_S), name=runner_id)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])))
