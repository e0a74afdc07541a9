"""The fake control plane judges held attempts as the real one does: what the agent tests show is worth something."""

from __future__ import annotations

import pytest
from banksman.v1 import run_pb2 as run
from banksman.v1 import session_pb2 as pb

from control_plane.domain.attempt import AttemptState
from control_plane.domain.protocol import judge
from control_plane.domain.session import ExitOutcome, HeldPhase
from tests.fakes.cases import AT, HOLDER, RUN_ID, case, exit_record, held
from tests.fakes.control_plane import FakeAttempt, FakeControlPlane, command

PHASES = [
    HeldPhase.ACCEPTED,
    HeldPhase.STARTING,
    HeldPhase.RUNNING,
    HeldPhase.STOPPING,
    HeldPhase.EXITED,
]
STATES = [AttemptState.OFFERED, AttemptState.STARTING, AttemptState.RUNNING, AttemptState.STOPPING]


def fake_verdict(state: AttemptState | None, phase: HeldPhase, *, with_exit: bool) -> pb.Verdict:
    plane = FakeControlPlane()
    key = (str(RUN_ID), 1)
    if state is not None:
        attempt = FakeAttempt(key=key, spec=command("true"), state=str(state))
        if state is AttemptState.STOPPING:
            attempt.stop = pb.Stop(reason=run.REASON_USER_CANCEL)
        plane.attempts[key] = attempt
    entry = pb.HeldAttempt(
        key=pb.AttemptKey(run_id=key[0], lease_epoch=1), phase=pb.HeldPhase.Value(f"HELD_PHASE_{phase}")
    )
    if with_exit:
        entry.exit.CopyFrom(pb.ExitRecord(outcome=pb.EXIT_OUTCOME_ENDED_WELL, final_offset=10, digest="ab"))
    return plane.verdict(entry)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("with_exit", [True, False])
def test_it_judges_as_the_real_one(state: AttemptState, phase: HeldPhase, with_exit: bool) -> None:
    if state is AttemptState.OFFERED and phase is not HeldPhase.ACCEPTED:
        return  # nothing past an acceptance can be held of what was never assigned
    if state is AttemptState.RUNNING and phase is HeldPhase.ACCEPTED:
        return  # a contradiction that no agent tells
    exit_ = exit_record(ExitOutcome.ENDED_WELL) if with_exit and phase is HeldPhase.EXITED else None
    real = judge(held(phase, exit_), HOLDER, case(state), AT).verdict
    assert real is not None
    said = fake_verdict(state, phase, with_exit=exit_ is not None)
    assert pb.VerdictKind.Name(said.kind) == f"VERDICT_KIND_{real.kind}"
    assert said.exit_stored == real.exit_stored
    assert said.HasField("stop") == (real.stop is not None)
    if phase is not HeldPhase.EXITED:
        assert said.renewed == real.renewed


@pytest.mark.parametrize("phase", PHASES)
def test_a_run_that_it_does_not_know_is_unknown_to_both(phase: HeldPhase) -> None:
    real = judge(held(phase), HOLDER, None, AT).verdict
    assert real is not None
    assert pb.VerdictKind.Name(fake_verdict(None, phase, with_exit=False).kind) == f"VERDICT_KIND_{real.kind}"


def test_an_acceptance_of_what_was_withdrawn_is_fenced_by_both_and_released_once_it_is_over() -> None:
    for phase, kind in ((HeldPhase.ACCEPTED, "FENCED"), (HeldPhase.EXITED, "RELEASE")):
        exit_ = exit_record(ExitOutcome.NOT_STARTED, final_offset=0) if phase is HeldPhase.EXITED else None
        real = judge(held(phase, exit_), HOLDER, case(AttemptState.REJECTED), AT).verdict
        assert real is not None
        assert real.kind == kind
        said = fake_verdict(AttemptState.REJECTED, phase, with_exit=exit_ is not None)
        assert pb.VerdictKind.Name(said.kind) == f"VERDICT_KIND_{kind}"
