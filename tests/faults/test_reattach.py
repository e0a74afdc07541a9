"""A run is attached again soon after its agent was started again, killed or handed over, idle or loud."""

from __future__ import annotations

import pathlib
import signal
import time

from tests.faults.figures import Recorder as Figures
from tests.faults.figures import percentile, spread
from tests.history import truthful
from tests.history.recorder import Recorder
from tests.scenarios.house import Agent, House
from tests.scenarios.specs import seconds, spec
from tests.waiting import wait_for

RESTARTS = 24
RUNS = 6
GOAL_S = 2.0


def test_a_run_is_attached_again_soon(house: House, figures: Figures, tmp_path: pathlib.Path) -> None:
    recorder = Recorder(tmp_path / "history.jsonl", house.root / "truth")
    agent = house.agent("r1", slots=RUNS)
    house.doors = house.client("", recorder)
    for number in range(RUNS):
        plan = truthful.plan(name=f"r{number}", pieces=100_000, pause_s=0.03, sizes=[100, 5_000][: 1 + number % 2])
        run = house.submit(spec(truthful.argv(recorder.place, plan), grace=seconds(1)))
        recorder.submitted(run.id, [plan])
    begun = lambda: {line["run"] for line in recorder.truth()}  # noqa: E731
    wait_for(lambda: len(begun()) == RUNS, what="all of them run")
    took = [_restart(house, agent, recorder, kill=number % 3 != 0) for number in range(RESTARTS)]
    for run in recorder.plans:
        house.cancel(run)
    for run in recorder.plans:
        assert house.wait(run).kill_confirmed
        recorder.read_logs(house.doors, run)
    recorder.expect_whole(house)
    p99 = percentile(took, 0.99)
    figures.record(
        "run re-attached after an agent restart", p99, unit="s", goal=f"<= {GOAL_S:g} (p99)", ok=p99 <= GOAL_S,
        spread=spread(took), note="from the start of the agent's process until all its runs are held in a new session",
    )  # fmt: skip


def _restart(house: House, agent: Agent, recorder: Recorder, *, kill: bool) -> float:
    """Seconds from the start of the new agent's process until every run is held again, and a new byte has arrived."""
    before = agent.runner()
    assert before is not None
    recorder.fault("agent", kill=kill)
    if kill:
        agent.kill_dash_nine()
    else:
        agent.send(signal.SIGUSR1)
        assert agent.wait() == 0
    began = time.monotonic()
    agent.start()

    def attached() -> bool:
        agent.expect_running()
        now = agent.runner()
        if now is None or now.session_epoch == before.session_epoch or not now.connected:
            return False
        return set(recorder.plans) <= set(now.held_run_ids) and all(map(_attached, map(house.get, recorder.plans)))

    def _attached(run: object) -> bool:
        return not run.attempts[0].HasField("disconnected_since")  # type: ignore[attr-defined]

    wait_for(attached, what="every run is attached again")
    return time.monotonic() - began
