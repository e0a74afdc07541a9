"""One identity, two agents: on one state directory the second is refused; with a copy of it nothing is lost."""

from __future__ import annotations

import pathlib
import shutil

from banksman.v1 import run_pb2, runner_pb2

from tests.scenarios.children import PATIENT, locked, python
from tests.scenarios.house import Agent, House
from tests.scenarios.links import Flood, Truthful
from tests.scenarios.program import Program
from tests.scenarios.specs import spec
from tests.waiting import wait_for


def seen(house: House, name: str = "r1") -> runner_pb2.Runner:
    return house.doors.runners.GetRunner(runner_pb2.GetRunnerRequest(runner=name))


def _sockets(directory: str, names: list[str]) -> list[str]:
    return [name for name in names if (pathlib.Path(directory) / name).is_socket()]


def cloned(house: House, agent: Agent) -> Agent:
    """An agent on a copy of the state directory, made while the first one lives; not started."""
    place = agent.argv.index("--state-dir") + 1
    original, copy = pathlib.Path(agent.argv[place]), house.root / "copy"
    shutil.copytree(original, copy, ignore=_sockets, symlinks=True)
    made = Agent(house, "clone", [*agent.argv[:place], str(copy), *agent.argv[place + 1 :]])
    house.agents["clone"] = made
    return made


def test_a_second_agent_on_a_state_directory_is_refused(house: House) -> None:
    agent = house.agent("r1")
    run = Flood(house, 10_000)
    run.pid()
    second = Program("second", agent.argv, house.root)
    second.start()
    assert second.wait() == 6
    assert "is used by another agent" in second.said()
    assert "--handover" in second.said()
    run.gate.send()
    run.expect_a_whole_end()


def test_a_copied_state_directory_does_not_speak_for_the_first_one(house: House) -> None:
    agent = house.agent("r1", slots=2)
    arrived, lock = house.fifo("patient"), house.root / "lock"
    patient = house.submit(spec(python(PATIENT, lock, arrived.path))).id
    arrived.receive()
    run = Truthful(house, "first", 400)
    run.wait_started()
    first = seen(house)
    clone = cloned(house, agent)
    clone.start()
    wait_for(lambda: seen(house).state_directory_id != first.state_directory_id, what="the newest session wins")
    now = seen(house)
    assert any("is a copy of another state directory" in warning for warning in now.warnings), now
    (aside,) = (house.root / "copy").glob("copied-*")
    assert {path.name for path in aside.iterdir()} == {f"{patient}.1", f"{run.id}.1", "quarantine"}
    # The first one comes back by itself, and its runs have gone on all the time.
    wait_for(lambda: seen(house).state_directory_id == first.state_directory_id, what="the first one is back")
    back = seen(house)
    assert back.session_epoch <= first.session_epoch + 3, "they snatch the session back and forth"
    assert first.state_directory_id in back.clone_alarms[0].message
    assert now.state_directory_id in back.clone_alarms[0].message
    clone.kill_dash_nine()
    house.cancel(patient)
    done = house.wait(patient)
    assert (done.state, done.kill_confirmed, len(done.attempts)) == (run_pb2.RUN_STATE_CANCELLED, True, 1), done
    assert not locked(lock)
    _expect_untouched(house, run)
    for program in (agent, house.server, clone):
        assert "Traceback" not in program.said(100_000)
    assert "two hosts share one identity" in agent.said(100_000) + clone.said(100_000)


def _expect_untouched(house: House, run: Truthful) -> None:
    """One attempt, one process, its end by itself, and its whole log."""
    done = house.wait(run.id)
    assert (done.state, len(done.attempts)) == (run_pb2.RUN_STATE_SUCCEEDED, 1), done
    assert [item[0] for item in run.said("start", "stop", "overlap")] == ["start", "stop"]
    assert done.attempts[0].log_complete
