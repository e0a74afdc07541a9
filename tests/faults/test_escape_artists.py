"""How surely and how soon the ladder ends a tree: 200 cancels over all shapes, judged by the trees' own locks."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Iterator

import pytest
from banksman.v1 import run_pb2

from tests.faults.figures import Recorder, percentile, spread
from tests.scenarios import troupe
from tests.scenarios.house import House
from tests.scenarios.specs import seconds

RUNS = 208
AT_ONCE = 2
GRACE_S = 0.5
GOAL_S = 0.2
KINDS = ("cgroups", "walk")


class Watch(threading.Thread):
    """Waits in flock for the end of a tree's last process, and notes the instant."""

    def __init__(self, artist: troupe.Artist) -> None:
        super().__init__(name=f"watch {artist.shape}", daemon=True)
        self.artist = artist
        self.free_at: float | None = None
        self.start()

    def run(self) -> None:
        with self.artist.lock.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.free_at = time.time()


@pytest.fixture
def circus() -> Iterator[House]:
    """A runner that uses cgroups where it may, and one that walks the trees."""
    with House() as made:
        for kind in KINDS:
            agent = made.agent(kind, slots=AT_ONCE, labels={"kill": kind}, start=False)
            agent.argv += ["--no-cgroups"] if kind == "walk" else []
            agent.connect()
        yield made


def test_every_tree_is_dead_soon_after_its_grace(circus: House, figures: Recorder) -> None:
    beyond: list[float] = []
    left: list[str] = []
    claimed: list[str] = []
    shapes = [troupe.SHAPES[number % len(troupe.SHAPES)] for number in range(RUNS)]
    for at in range(0, RUNS, AT_ONCE):
        kind = KINDS[at // AT_ONCE % 2]
        artists = troupe.at_large(circus, shapes[at : at + AT_ONCE], labels={"kill": kind}, grace=seconds(GRACE_S))
        watches = [Watch(artist) for artist in artists]
        for artist in artists:
            circus.cancel(artist.run)
        for watch in watches:
            done = circus.wait(watch.artist.run)
            watch.join(5)
            name = f"{kind} {watch.artist.shape}"
            if watch.artist.survives:
                left.append(name)
                claimed += [name] if done.kill_confirmed else []
            assert done.state == run_pb2.RUN_STATE_CANCELLED, name
            assert done.kill_confirmed, name
            if watch.free_at is not None:
                signalled = done.attempts[0].stop.signalled_at.ToNanoseconds() / 1e9
                beyond.append(max(0.0, watch.free_at - signalled - GRACE_S))
    figures.record(
        "survivors after the ladder", len(left), goal="0", ok=not left,
        note=f"{RUNS} cancels of {len(troupe.SHAPES)} shapes, half by cgroup, half by walking; {' '.join(left)}",
    )  # fmt: skip
    worst, p99 = max(beyond), percentile(beyond, 0.99)
    figures.record(
        "ladder beyond grace, worst", worst * 1000, unit="ms", goal=f"<= {GOAL_S * 1000:g} (p99)", ok=p99 <= GOAL_S,
        spread=spread([value * 1000 for value in beyond]),
        note=f"p99 {p99 * 1000:.1f} ms beyond a grace of {GRACE_S:g} s",
    )  # fmt: skip
    figures.record("false kill_confirmed", len(claimed), goal="0", ok=not claimed, note="escape artists")
