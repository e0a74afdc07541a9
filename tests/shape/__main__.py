"""Show what one no-op run costs, and its course: `python -m tests.shape`.

The counting takes a few microseconds an event, so the whole is a little slower than without.
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import statistics
import time
from collections import Counter, defaultdict

from tests.bench.measures.children import stamping
from tests.scenarios.specs import spec
from tests.shape.house import CountingHouse

RUNS = 100
# What is counted beside an event that is shown.
QUIET = ("query ", "agent.bytes", "agent.records", "call WaitRun")
TWICE = ("server.sync", "agent.sync", "host.sync")  # each is there again with its place


def main() -> None:
    """Runs one after another; medians over them."""
    times: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    with CountingHouse() as house:
        house.agent("a")
        stamps = house.fifo("stamps")
        house.execute(spec(stamping(stamps.path)))
        stamps.receive()
        with house.counting() as found:
            for _ in range(RUNS):
                begin_ns = time.time_ns()
                house.execute(spec(stamping(stamps.path)))
                course = house.tally.course(begin_ns)
                course.append((round(float(stamps.receive().replace(",", ".")) * 1e9), "child: first instruction"))
                seen: Counter[str] = Counter()
                for at, name in sorted(course):
                    seen[name] += 1
                    times[name, seen[name]].append((at - begin_ns) / 1e6)
    print("a run:")
    for name, number in sorted(found.items()):
        print(f"  {number / RUNS:6.1f}  {name}")
    print("its course, median ms since CreateRun was called (what most runs have):")
    for (name, _), at in sorted(times.items(), key=lambda item: statistics.median(item[1])):
        if len(at) > RUNS / 2 and not name.startswith(QUIET) and name not in TWICE:
            print(f"  {statistics.median(at):7.2f}  {name}")


if __name__ == "__main__":
    main()
