"""What an operator's word about a runner means for its attempts, in every state that they may be in."""

from dataclasses import replace

import pytest

from control_plane.domain.attempt import ATTEMPT_TERMINAL, AttemptState, EndProof
from control_plane.domain.ends import exited
from control_plane.domain.evidence import late_exit, with_missing_bytes
from control_plane.domain.log import LogGap
from control_plane.domain.marks import LossMark, mark_lost
from control_plane.domain.protocol import judge
from control_plane.domain.reason import Reason
from control_plane.domain.session import ExitOutcome, Fenced, HeldPhase, VerdictKind, Withdraw
from control_plane.domain.spec import OnLost
from tests.fakes.cases import AT, HOLDER, KEY, NOW, attempt, cancelling, case, exit_record, held, spec

AWAY = LossMark(actor="ann", note="its switch burned")
DEAD = replace(AWAY, host_is_dead=True)
RETRY = spec(on_lost=OnLost.RETRY)
HELD = (AttemptState.STARTING, AttemptState.RUNNING, AttemptState.STOPPING)


@pytest.mark.parametrize("mark", [AWAY, DEAD])
def test_an_offer_is_taken_back(mark: LossMark) -> None:
    after = mark_lost(case(AttemptState.OFFERED, of=RETRY), mark, AT)
    assert (after.run.state, after.live.state, after.live.reason) == ("QUEUED", "REJECTED", Reason.MARKED_LOST)
    assert after.run.infra_retries == 0
    assert after.sends == (Withdraw(key=KEY),)
    assert [(each.type, each.actor, each.note) for each in after.events] == [("RETURNED", "ann", "its switch burned")]


@pytest.mark.parametrize("state", HELD)
def test_what_it_holds_is_lost_and_not_tried_again_while_the_host_may_live(state: AttemptState) -> None:
    after = mark_lost(case(state, of=RETRY, stopped=Reason.RUN_TIMEOUT), AWAY, AT)
    assert (after.run.state, after.live.state) == ("LOST", "LOST")
    assert (after.run.reason, after.run.completed_at) == (Reason.MARKED_LOST, NOW)
    assert not after.run.kill_confirmed
    assert after.live.end_proof is EndProof.NOT_PROVEN
    assert after.events[0].actor == "ann"
    assert "its switch burned" in after.events[0].note
    assert "not proven empty" in after.events[0].note
    assert after.sends == (Fenced(key=KEY, current_lease_epoch=1),)


@pytest.mark.parametrize("state", HELD)
def test_a_dead_host_lets_a_run_that_wants_it_be_tried_again(state: AttemptState) -> None:
    after = mark_lost(case(state, of=RETRY, stopped=Reason.RUN_TIMEOUT), DEAD, AT)
    assert (after.run.state, after.live.state, after.run.infra_retries) == ("QUEUED", "LOST", 1)
    assert [(each.type, each.actor, each.note) for each in after.events] == [("WILL_RETRY", "ann", "its switch burned")]
    failing = mark_lost(case(state, stopped=Reason.RUN_TIMEOUT), DEAD, AT)
    assert failing.run.state == "LOST"


@pytest.mark.parametrize("mark", [AWAY, DEAD])
def test_a_cancel_that_waited_for_the_host_is_done(mark: LossMark) -> None:
    waiting = case(AttemptState.STOPPING, of=RETRY)
    after = mark_lost(replace(waiting, run=cancelling(waiting.run)), mark, AT)
    assert (after.run.state, after.run.reason, after.live.state) == ("CANCELLED", Reason.USER_CANCEL, "LOST")
    assert not after.run.kill_confirmed


@pytest.mark.parametrize("state", sorted(ATTEMPT_TERMINAL))
def test_what_is_over_stays_as_it_is(state: AttemptState) -> None:
    ended = case(state)
    assert mark_lost(ended, DEAD, AT) == ended


def test_a_runner_that_comes_back_is_fenced_and_its_evidence_is_taken() -> None:
    marked = mark_lost(case(AttemptState.RUNNING), AWAY, AT)
    alive = judge(held(HeldPhase.RUNNING), HOLDER, marked, AT)
    assert alive.verdict is not None
    assert alive.verdict.kind is VerdictKind.FENCED
    killed = exit_record(ExitOutcome.ENDED_BADLY, exit_code=None, signal=9)
    ended = judge(held(HeldPhase.EXITED, killed), HOLDER, marked, AT)
    assert ended.case is not None
    assert ended.case.run.state == "LOST"
    assert ended.case.live.end_proof is EndProof.CONFIRMED
    assert ended.case.run.kill_confirmed


def test_a_log_that_was_sealed_early_counts_what_it_lacks_as_soon_as_it_can() -> None:
    sealed = attempt(AttemptState.LOST, log_sealed_at=NOW, log_complete=False, log_bytes=5)
    unknown = with_missing_bytes(sealed)
    assert (unknown.log_counted, unknown.gaps) == (False, ())
    marked = replace(mark_lost(case(AttemptState.RUNNING), DEAD, AT), attempt=unknown)
    late = late_exit(marked, exit_record(final_offset=9), NOW)
    assert late.live.gaps == (LogGap(from_offset=5, to_offset=9),)
    assert late.live.log_counted
    assert with_missing_bytes(late.live) == late.live
    whole = late_exit(marked, exit_record(final_offset=5), NOW)
    assert whole.live.gaps == ()


def test_the_proof_of_an_end_is_never_better_than_what_was_said() -> None:
    assert case(AttemptState.RUNNING).live.end_proof is None
    assert attempt(AttemptState.REJECTED).end_proof is None
    assert attempt(AttemptState.LOST, reason=Reason.RUNNER_LOST).end_proof is EndProof.PRESUMED_DEAD
    assert attempt(AttemptState.LOST, reason=Reason.MARKED_LOST).end_proof is EndProof.NOT_PROVEN
    assert attempt(AttemptState.CANCELLED, reason=Reason.FORCED).end_proof is EndProof.NOT_PROVEN
    assert exited(case(AttemptState.RUNNING), exit_record(), AT).live.end_proof is EndProof.CONFIRMED
