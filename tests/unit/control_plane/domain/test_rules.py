"""The rules of the session that concern the server, each by the shortest trace that breaks it when it is missing.

Traces: the server's stored case goes from statement to statement; what is lost on the wire is simply not judged.
"""

from dataclasses import replace

import pytest

from control_plane.domain.attempt import AttemptState
from control_plane.domain.case import Case
from control_plane.domain.clocks import Clocks, Ring
from control_plane.domain.ids import AttemptKey, RunnerId
from control_plane.domain.loss import freed_after_s
from control_plane.domain.offers import offer
from control_plane.domain.protocol import Judgement, judge, judge_exited, judge_reply, judge_silence, judge_started
from control_plane.domain.reason import Reason
from control_plane.domain.run import RunState
from control_plane.domain.session import (
    AttemptExited,
    AttemptStarted,
    ExitOutcome,
    HeldAttempt,
    HeldPhase,
    OfferReply,
    Verdict,
    VerdictKind,
)
from control_plane.domain.spec import OnLost
from control_plane.domain.stops import CancelOrder, cancel
from control_plane.domain.timing import Timing
from tests.fakes.cases import AT, CLONE, HOLDER, KEY, NOW, OTHER_RUNNER, RUNNER, case, exit_record, held, spec

ACCEPT = OfferReply(key=KEY, accept=True)


def kept(judgement: Judgement) -> Case:
    """The case as it is stored after the statement."""
    assert judgement.case is not None
    return replace(judgement.case, events=(), sends=())


def verdict(judgement: Judgement) -> Verdict:
    assert judgement.verdict is not None
    return judgement.verdict


def offered(runner_id: RunnerId = RUNNER, *, on_lost: OnLost = OnLost.FAIL, max_attempts: int = 1) -> Case:
    fresh = offer(case(of=spec(on_lost=on_lost, max_attempts=max_attempts)), runner_id, 1, 10.0, NOW)
    return replace(fresh, events=(), sends=())


def accepted(**of: object) -> Case:
    return kept(judge_reply(ACCEPT, HOLDER, offered(**of), AT))  # type: ignore[arg-type]


def running(**of: object) -> Case:
    return kept(judge_started(AttemptStarted(key=KEY), HOLDER, accepted(**of), AT))


def test_rule_1_an_exit_counts_although_started_was_lost() -> None:
    """offer, accept, assignment, the child starts, STARTED is lost, the child exits 0."""
    after = kept(judge_exited(AttemptExited(key=KEY, exit=exit_record()), HOLDER, accepted(), AT))
    assert (after.live.state, after.run.state) == ("SUCCEEDED", "SUCCEEDED")


@pytest.mark.parametrize("outcome", [ExitOutcome.NOT_STARTED, ExitOutcome.START_FAILED, ExitOutcome.ENDED_WELL])
def test_rule_1_every_end_counts_while_stopping(outcome: ExitOutcome) -> None:
    """offer, accept, CANCEL, and then whatever end: the cancelled run must not hang."""
    stopping = cancel(accepted(), CancelOrder(actor="ann"), NOW)
    after = kept(judge_exited(AttemptExited(key=KEY, exit=exit_record(outcome)), HOLDER, stopping, AT))
    assert after.run.state is RunState.CANCELLED


def test_rule_2_an_unforked_attempt_gets_its_assignment_again() -> None:
    """offer, accept, the Assignment is lost: the next heartbeat says `accepted`."""
    again = judge(held(HeldPhase.ACCEPTED), HOLDER, accepted(), AT)
    assert verdict(again).kind is VerdictKind.START


def test_rule_2_or_the_stop_and_never_just_keep() -> None:
    """offer, accept, CANCEL, the agent is killed and says Hello with `accepted`."""
    stopping = cancel(accepted(), CancelOrder(), NOW)
    again = judge(held(HeldPhase.ACCEPTED), HOLDER, stopping, AT)
    assert verdict(again).kind is VerdictKind.STOP
    assert verdict(again).stop is not None


def test_rule_3_the_log_of_a_retried_attempt_is_still_completed() -> None:
    """e1 exits 1, its exit is stored, e2 is offered: e1's exit is acked, its log wanted, and at last it is released."""
    record = exit_record(ExitOutcome.ENDED_BADLY)
    ended = kept(judge_exited(AttemptExited(key=KEY, exit=record), HOLDER, running(max_attempts=2), AT))
    assert ended.run.state is RunState.QUEUED
    retried = offer(ended, OTHER_RUNNER, 2, 10.0, NOW)
    first = replace(retried, attempt=ended.attempt, others=(), events=(), sends=())
    entry = held(HeldPhase.EXITED, record)
    wanted = judge(entry, HOLDER, first, AT)
    assert (verdict(wanted).kind, verdict(wanted).exit_stored) == (VerdictKind.KEEP, True)
    assert wanted.case == first
    sealed = replace(first, attempt=replace(first.live, log_sealed_at=NOW))
    assert verdict(judge(entry, HOLDER, sealed, AT)).kind is VerdictKind.RELEASE


def test_rule_3_a_clone_cannot_add_evidence() -> None:
    lost_case = kept(judge(held(HeldPhase.RUNNING), HOLDER, running(), AT))
    lost_case = replace(judge_silence(lost_case, AT), events=())
    judged = judge(held(HeldPhase.EXITED, exit_record()), CLONE, lost_case, AT)
    assert judged.case == lost_case


def test_rule_4_a_shim_that_gave_up_behind_the_barrier_started_nothing() -> None:
    """The deadline passed before the fork: NOT_STARTED, told late, frees the run without a second process."""
    record = exit_record(ExitOutcome.NOT_STARTED, stopped_by=Reason.RUNNER_LOST)
    after = kept(judge_exited(AttemptExited(key=KEY, exit=record), HOLDER, accepted(on_lost=OnLost.RETRY), AT))
    assert (after.live.state, after.run.state) == ("REJECTED", "QUEUED")
    assert after.live.kill_confirmed


def test_rule_4_the_server_waits_longer_than_the_runner_lives() -> None:
    """The runner is done a grace after `lost_after` from its send; the server counts from its receipt, and adds."""
    for lost_after_s in (30.0, 600.0, 86_400.0, 7 * 86_400.0):
        of = spec(on_lost=OnLost.RETRY, lost_after_s=lost_after_s)
        freed = freed_after_s(of, Timing())
        assert freed is not None
        slewed_apart = lost_after_s * 1000e-6
        assert freed - (lost_after_s + of.grace) > slewed_apart + 1.0


def test_rule_6_what_is_not_listed_is_neither_ignored_nor_lost_at_once() -> None:
    """offer, accept, the run directory becomes unreadable: no entry, no verdict, and its loss clock runs."""
    timing = Timing()
    clocks = Clocks(timing=timing)
    at = running()
    clocks.follow(at.live, at.spec, 0.0)
    due_s = clocks.lost_at_s(KEY)
    assert due_s is not None
    clocks.last_tick_s = due_s - 2.0
    assert clocks.tick(due_s - 1.0) == ()
    assert clocks.tick(due_s)[0].ring is Ring.LOSS
    assert judge_silence(at, AT).run.state is RunState.LOST


def test_rule_7_another_boot_id_alone_proves_nothing() -> None:
    """A clone says Hello from another boot with an empty disk: nothing that it says touches the attempt."""
    at = running(on_lost=OnLost.RETRY)
    entry = HeldAttempt(key=KEY, phase=HeldPhase.RUNNING, boot_id="another-boot")
    assert judge(entry, CLONE, at, AT).case == at
    from_holder = judge(entry, HOLDER, at, AT)
    assert (verdict(from_holder).kind, from_holder.case) == (VerdictKind.KEEP, at)


def test_rule_7_a_reboot_is_believed_from_the_attempts_own_record() -> None:
    record = exit_record(ExitOutcome.HOST_REBOOTED, tree_empty=False)
    after = kept(judge(held(HeldPhase.EXITED, record), HOLDER, running(on_lost=OnLost.RETRY), AT))
    assert (after.live.reason, after.run.state) == (Reason.HOST_REBOOTED, "QUEUED")


def test_rule_8_no_second_process_beside_an_orphaned_tree() -> None:
    """The shim dies, the sweep fails, the agent says so: the run must not be offered to another runner."""
    record = exit_record(ExitOutcome.SHIM_DIED, tree_empty=False)
    at = running(on_lost=OnLost.RETRY, max_attempts=9)
    after = kept(judge_exited(AttemptExited(key=KEY, exit=record), HOLDER, at, AT))
    assert (after.run.state, after.run.kill_confirmed) == ("LOST", False)
    swept = kept(judge_exited(AttemptExited(key=KEY, exit=replace(record, tree_empty=True)), HOLDER, at, AT))
    assert swept.run.state is RunState.QUEUED


def test_rule_9_a_heartbeat_heals_a_lost_acceptance() -> None:
    """offer, the runner accepts on disk, its reply is lost: the held set says so, and the Assignment follows."""
    healed = judge(held(HeldPhase.ACCEPTED), HOLDER, offered(), AT)
    assert verdict(healed).kind is VerdictKind.START
    assert kept(healed).live.state is AttemptState.STARTING


def test_rule_9_a_heartbeat_heals_a_lost_start_and_a_lost_exit() -> None:
    started = judge(held(HeldPhase.RUNNING), HOLDER, accepted(), AT)
    assert kept(started).run.state is RunState.RUNNING
    ended = judge(held(HeldPhase.EXITED, exit_record()), HOLDER, kept(started), AT)
    assert kept(ended).run.state is RunState.SUCCEEDED


def test_one_valid_fence_a_lost_attempt_that_comes_back_changes_nothing() -> None:
    """e1 is lost by its clock, e2 runs elsewhere, e1's host comes back: fenced, and its exit is only evidence."""
    lost_case = replace(judge_silence(running(on_lost=OnLost.RETRY), AT), events=())
    assert lost_case.run.state is RunState.QUEUED
    second = offer(lost_case, OTHER_RUNNER, 2, 10.0, NOW)
    old = replace(second, attempt=lost_case.attempt, others=(), events=(), sends=())
    back = judge(held(HeldPhase.RUNNING), HOLDER, old, AT)
    assert (verdict(back).kind, back.case) == (VerdictKind.FENCED, old)
    killed = judge(held(HeldPhase.EXITED, exit_record(ExitOutcome.ENDED_BADLY)), HOLDER, old, AT)
    assert kept(killed).run == old.run
    assert kept(killed).live.kill_confirmed
    assert kept(killed).live.state is AttemptState.LOST


def test_a_statement_about_a_later_fence_is_not_believed() -> None:
    entry = held(HeldPhase.RUNNING, key=AttemptKey(run_id=KEY.run_id, lease_epoch=9))
    at = running()
    judged = judge(entry, HOLDER, at, AT)
    assert (verdict(judged).kind, judged.case) == (VerdictKind.UNKNOWN, at)
