"""200 runners find their control plane again after its restart, by the default settings."""

from __future__ import annotations

import time

from tests.faults.figures import Recorder, spread
from tests.faults.fleet import connected, wait_all
from tests.faults.test_disconnected import fleets
from tests.scenarios.house import House
from tests.scenarios.links import last
from tests.waiting import wait_for

RUNNERS = 200
GOAL_S = 30.0
# How long the control plane stays away: the longer, the longer the runners wait between their tries.
AWAY_S = (0.0, 0.0, 25.0)


def test_all_runners_come_back_after_a_restart(house: House, figures: Recorder) -> None:
    took: list[float] = []
    with fleets(house, 2, RUNNERS // 2) as made:
        for away_s in AWAY_S:
            before = connected(house)
            assert len(before) == RUNNERS
            house.server.kill_dash_nine()
            last(away_s)
            began = time.monotonic()
            house.start_server()
            wait_all(house, made, lambda name, epoch, before=before: epoch > before[name])
            took.append(time.monotonic() - began)
            figures.say(f"away {away_s:g} s and its start: all back {took[-1]:.1f} s after it was started")
        _expect_them_to_stay(house)
    worst = max(took)
    figures.record(
        "200 runners back after a server restart", worst, unit="s", goal=f"<= {GOAL_S:g}", ok=worst <= GOAL_S,
        spread=spread(took), note=f"worst of {len(took)}; the control plane was away for {AWAY_S} s",
    )  # fmt: skip


def _expect_them_to_stay(house: House) -> None:
    """Nobody is thrown out again while all of them heartbeat."""
    epochs = connected(house)
    end = time.monotonic() + 12.0

    def same() -> bool:
        assert connected(house) == epochs
        return time.monotonic() > end

    wait_for(same, what="two heartbeats of everybody", timeout_s=60)
