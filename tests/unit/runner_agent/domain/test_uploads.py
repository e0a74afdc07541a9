"""Files that an attempt has left come before it is forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner_agent.domain.assignment import ArtifactPattern
from runner_agent.domain.events import Exited, LeaveRequested, Prepared, UploadMoved
from runner_agent.domain.exit_report import Outcome
from runner_agent.domain.held import Held, Phase
from runner_agent.domain.messages import Release, VerdictKind
from runner_agent.domain.outputs import Forget, Leave
from tests.unit.runner_agent.domain.core import Core, assignment, key, report, verdict

FORGET = Forget(key=key())
WANTED = (ArtifactPattern(path="dist/*"),)


def ended(outcome: Outcome = Outcome.ENDED_WELL, *, artifacts: bool = True) -> Core:
    """An attempt that has run here and is over."""
    core = Core()
    core.connect()
    core.accept()
    core.hear(replace(assignment(), artifacts=WANTED if artifacts else ()))
    core.feed(Prepared(key=key()))
    core.feed(Exited(key=key(), report=report(outcome)))
    return core


def forgets(core: Core) -> bool:
    return FORGET in core.history


def test_a_release_waits_for_the_files() -> None:
    core = ended()
    core.hear(Release(key=key()))
    assert not forgets(core)
    core.feed(UploadMoved(key=key()))
    assert not forgets(core)
    core.feed(UploadMoved(key=key(), done=True))
    assert forgets(core)


def test_files_wait_for_the_release() -> None:
    core = ended()
    core.feed(UploadMoved(key=key(), done=True))
    assert not forgets(core)
    core.hear(Release(key=key()))
    assert forgets(core)


def test_a_verdict_knows_of_the_files_and_is_obeyed_at_once() -> None:
    core = ended()
    core.cut()
    core.connect(verdict(VerdictKind.RELEASE))
    assert forgets(core)


@pytest.mark.parametrize("outcome", [Outcome.START_FAILED, Outcome.NOT_STARTED])
def test_what_never_ran_left_nothing(outcome: Outcome) -> None:
    core = ended(outcome)
    core.hear(Release(key=key()))
    assert forgets(core)


def test_a_spec_without_artifacts_waits_for_nothing() -> None:
    core = ended(artifacts=False)
    core.hear(Release(key=key()))
    assert forgets(core)


def test_what_an_earlier_agent_has_left_is_uploaded_before_it_is_forgotten() -> None:
    core = Core(Held(key=key(), phase=Phase.EXITED, exit=report(), artifacts=True))
    core.connect(verdict(VerdictKind.KEEP, exit_stored=True))
    core.hear(Release(key=key()))
    assert not forgets(core)
    core.feed(UploadMoved(key=key(), done=True))
    assert forgets(core)


def test_an_agent_that_leaves_is_patient_while_files_move() -> None:
    core = ended()
    core.feed(LeaveRequested())
    began = core.state.idle_since_boot_ns
    core.run_clock(2.0)
    assert core.state.idle_since_boot_ns == began
    core.feed(UploadMoved(key=key()))
    assert core.state.idle_since_boot_ns == core.now
    assert not core.made(Leave)


def test_files_of_an_attempt_that_is_gone_are_nothing() -> None:
    core = Core()
    core.connect()
    core.feed(UploadMoved(key=key(), done=True))
    assert core.state.held == {}
