"""Every change of every zone's clock from 2020 to 2040: a cron expression fires when the declared rule says."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from zoneinfo import available_timezones

from tests.fakes.local_times import differences, transitions
from tests.faults.figures import Recorder

FROM, TO = datetime(2020, 1, 1, tzinfo=UTC), datetime(2041, 1, 1, tzinfo=UTC)


def test_firings_around_every_change_equal_those_of_the_oracle(figures: Recorder) -> None:
    zones = sorted(available_timezones())
    checked, fired, wrong, began_s = 0, 0, [], time.process_time()
    for zone in zones:
        for transition in transitions(zone, FROM, TO):
            checked += 1
            fired += len(transition.expressions())
            wrong += differences(transition)
    spread = f"{len(zones)} zones, {fired} expressions, {time.process_time() - began_s:.0f} s of CPU"
    figures.record("clock changes, cron differs", len(wrong), goal="0", ok=not wrong and checked > 5_000, spread=spread)
    figures.record("clock changes checked", checked, goal="> 5,000", ok=checked > 5_000, spread=spread)
    assert wrong[:20] == []
