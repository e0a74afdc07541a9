"""From the call of CancelRun to the first signal that the run's program gets, on loopback."""

from __future__ import annotations

import pathlib
import time

from tests.faults.figures import Recorder as Figures
from tests.faults.figures import percentile, spread
from tests.history import truthful
from tests.history.checker import tally
from tests.history.recorder import Recorder
from tests.scenarios.house import House
from tests.scenarios.specs import seconds, spec
from tests.waiting import wait_for

ROUNDS, EACH = 11, 20
GOAL_MS = 250.0


def test_a_cancel_reaches_the_program_at_once(house: House, figures: Figures, tmp_path: pathlib.Path) -> None:
    recorder = Recorder(tmp_path / "history.jsonl", house.root / "truth")
    house.agent("r1", slots=EACH)
    house.doors = house.client("", recorder)
    took: list[float] = []
    for number in range(ROUNDS):
        took += _round(house, recorder, number)
    history = recorder.expect_whole(house)
    p99 = percentile(took, 0.99)
    figures.record(
        "cancel to first signal, p99", p99, unit="ms", goal=f"<= {GOAL_MS:g}", ok=p99 <= GOAL_MS, spread=spread(took)
    )
    told = tally(history)
    assert told.cancels == ROUNDS * EACH
    figures.record(
        "false kill_confirmed", told.false_confirmed, goal="0", ok=not told.false_confirmed, note="cancel latency"
    )


def _round(house: House, recorder: Recorder, number: int) -> list[float]:
    """Milliseconds of each cancel of a round; the program notes the time of the signal by the same clock."""
    runs = []
    for index in range(EACH):
        plan = truthful.plan(name=f"c{number}-{index}", pieces=2_000, pause_s=0.5, sizes=[10])
        run = house.submit(spec(truthful.argv(recorder.place, plan), grace=seconds(5)))
        recorder.submitted(run.id, [plan])
        runs.append(run.id)
    wait_for(lambda: set(runs) <= _said(recorder, "start").keys(), what="all of them run", timeout_s=60)
    asked = {}
    for run in runs:
        asked[run] = time.monotonic()
        house.cancel(run)
    wait_for(lambda: set(runs) <= _said(recorder, "signal").keys(), what="all of them get a signal", timeout_s=60)
    signalled = _said(recorder, "signal")
    for run in runs:
        assert house.wait(run).kill_confirmed
        recorder.read_logs(house.doors, run)
    return [(signalled[run] - asked[run]) * 1000 for run in runs]


def _said(recorder: Recorder, word: str) -> dict[str, float]:
    """When each run said this first."""
    found: dict[str, float] = {}
    for line in recorder.truth():
        if line["word"] == word:
            found.setdefault(line["run"], line["mono"])
    return found
