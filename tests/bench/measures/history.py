"""With a thousand, a hundred thousand and a million runs stored: what readers ask, and what a new run waits.

Three servers of the same product, side by side, are asked by turns, so that what disturbs the machine disturbs all.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import shutil
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from banksman.v1 import run_pb2

from tests.bench.clients import Stubs
from tests.bench.registry import Figure, Limits, Round, measurement
from tests.bench.stored import EVERY_MS, SELDOM, Patterns, execute_patterns, multiply
from tests.scenarios.house import House
from tests.scenarios.specs import seconds, spec

NAMES = ("1k", "100k", "1M")
SIZES = (1_000, 100_000, 1_000_000)
FILTERS = {
    "state": ("state = FAILED", "state = LOST"),
    "task": ('task = "usual"', 'task = "seldom"'),
    "tag": ("tag : usual", "tag : seldom"),
    "label": ("label.kind = usual", "label.kind = seldom"),
    "runner": ("runner = usual", "runner = seldom"),
    "creator": ("creator = admin", "creator = seldom"),
    "trigger": ("trigger = MANUAL", "trigger = RETRY"),
    "reason": ("reason = EXIT_ZERO", "reason = OOM_KILLED"),
    "template": ("template = none", "template = none"),
    "two of these": ("tag : usual AND state = SUCCEEDED", "tag : seldom AND task = seldom"),
    "one of these": ("tag : usual OR task = seldom", "tag : seldom OR state = LOST"),
}
Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One of the three: its house, its clients, and which runs it has copies of."""

    house: House
    stubs: Stubs
    patterns: Patterns
    runs: int

    def calls(self) -> dict[str, Call]:
        """What is timed, by name."""
        stubs, run = self.stubs, self.patterns.seldom
        oldest = datetime.now(UTC) - timedelta(milliseconds=EVERY_MS * (self.runs - SELDOM / 2) + 86_400_000)
        listed = {
            "ListRuns": "",
            "ListRuns created before": f'created_at < "{oldest.isoformat()}"',
            "ListRuns created after": f'created_at > "{datetime.now(UTC).isoformat()}"',
        }
        for field, (usual, seldom) in FILTERS.items():
            listed |= {f"ListRuns by {field}, usual": usual, f"ListRuns by {field}, seldom": seldom}
        calls: dict[str, Call] = {
            "GetRun": lambda: stubs.runs.GetRun(run_pb2.GetRunRequest(run=run)),
            "GetRun by its short id": lambda: stubs.runs.GetRun(run_pb2.GetRunRequest(run=run[-8:])),
            "ListRunEvents": lambda: stubs.runs.ListRunEvents(run_pb2.ListRunEventsRequest(run=run)),
            "claim": self._claimed,
        }
        return calls | {name: self._listing(text) for name, text in listed.items()}

    def _listing(self, text: str) -> Call:
        request = run_pb2.ListRunsRequest(filter=text, page_size=50)
        return lambda: self.stubs.runs.ListRuns(request)

    async def _claimed(self) -> None:
        """A new run is offered, taken, executed and recorded."""
        request = run_pb2.CreateRunRequest(spec=spec(["/bin/true"], labels={"only": "usual"}))
        run = await self.stubs.runs.CreateRun(request)
        finished = run_pb2.WAIT_FOR_FINISHED
        await self.stubs.runs.WaitRun(run_pb2.WaitRunRequest(run=run.id, wait_for=finished, timeout=seconds(30)))


class Stores:
    """The three houses; they are filled once for all repetitions, and are down in between."""

    def __init__(self) -> None:
        self._houses: dict[int, tuple[House, Patterns]] = {}
        atexit.register(self.close)

    def fill(self, runs: int) -> float:
        """Seconds that it took to copy, 0 when it is there already."""
        if runs in self._houses:
            return 0.0
        house = House()
        try:
            patterns = execute_patterns(house)
            self._down(house)
            took_s = multiply(house.server_directory, patterns, runs)
        except BaseException:
            house.close()
            raise
        self._houses[runs] = (house, patterns)
        return took_s

    def up(self, runs: int) -> tuple[House, Patterns]:
        house, patterns = self._houses[runs]
        house.start_server()
        for agent in house.agents.values():
            agent.connect()
        return house, patterns

    def down(self) -> None:
        for house, _ in self._houses.values():
            self._down(house)

    def _down(self, house: House) -> None:
        for program in (*house.agents.values(), house.server):
            if program.running:
                program.stop()

    def close(self) -> None:
        while self._houses:
            _, (house, _) = self._houses.popitem()
            with contextlib.suppress(TimeoutError):
                house.close()
            shutil.rmtree(house.root, ignore_errors=True)


STORES = Stores()


def figures() -> tuple[Figure, ...]:
    known = Server(house=None, stubs=None, patterns=Patterns(succeeded="", failed="", seldom=""), runs=0)  # type: ignore[arg-type]
    return tuple(
        Figure(
            name=f"{call} {name}",
            label=f"{call}, {name} runs stored: p50" if name == NAMES[1] else f"… {name} runs stored",
            unit="ms",
            ratio=1.5,
            base="1k stored",
        )
        for call in known.calls()
        for name in NAMES[1:]
    )


@measurement(
    "stored runs",
    says="the same calls with 1,000, 100,000 and 1,000,000 runs stored; the seldom ones are the oldest",
    figures=figures(),
    limits=Limits(full=330),
)
async def stored(round: Round) -> None:
    sizes = round.pick(full=SIZES, quick=(100, 200, 300), tiny=(70, 80, 90))
    try:
        for runs in sizes:
            took_s = await asyncio.to_thread(STORES.fill, runs)
            if took_s:
                round.note(f"{runs:,} runs were copied by SQL in {took_s:.0f} s")
        servers = []
        for runs in sizes:
            house, patterns = await asyncio.to_thread(STORES.up, runs)
            stubs = Stubs(house.admin.target, house.admin.token)
            servers.append(Server(house=house, stubs=stubs, patterns=patterns, runs=runs))
        for call, waits in (await timed(servers, round.pick(full=41, quick=11, tiny=1))).items():
            for name, found in zip(NAMES[1:], waits[1:], strict=True):
                round.record(f"{call} {name}", found)
                round.record_base(f"{call} {name}", waits[0])
        for server in servers:
            await server.stubs.close()
    finally:
        last = round.number == 2 or round.pick(full=False, quick=False, tiny=True)
        await asyncio.to_thread(STORES.close if last else STORES.down)


async def timed(servers: list[Server], times: int) -> dict[str, list[float]]:
    """Of each call the median in milliseconds, by server; the first call of each is not counted."""
    calls = [server.calls() for server in servers]
    found: dict[str, list[list[float]]] = {name: [[] for _ in servers] for name in calls[0]}
    for number in range(times + 1):
        for name, waits in found.items():
            for mine, into in zip(calls, waits, strict=True):
                begin = time.perf_counter()
                await mine[name]()
                if number:
                    into.append((time.perf_counter() - begin) * 1000)
    return {name: [statistics.median(each) for each in waits] for name, waits in found.items()}
