"""Every (attempt state, statement of its holder) pair: the verdict, and what becomes of attempt and run."""

from dataclasses import replace

import pytest

from control_plane.domain.attempt import ATTEMPT_LIVE, ATTEMPT_TERMINAL, AttemptState, StepResult, StopPhase
from control_plane.domain.ids import AttemptKey
from control_plane.domain.protocol import (
    judge,
    judge_exited,
    judge_reply,
    judge_silence,
    judge_started,
    judge_step,
    judge_stop_status,
)
from control_plane.domain.reason import Reason
from control_plane.domain.run import RUN_TERMINAL, RunState
from control_plane.domain.session import (
    AttemptEventReport,
    AttemptExited,
    AttemptStarted,
    ExitOutcome,
    HeldPhase,
    OfferReply,
    RejectReason,
    StopStatus,
    VerdictKind,
)
from control_plane.domain.spec import StepKind
from tests.fakes.cases import (
    AT,
    CLONE,
    HOLDER,
    KEY,
    NOW,
    STRANGER,
    case,
    exit_record,
    held,
    run,
)

# (attempt before, statement) -> verdict, attempt after, run after. STOPPING is by a cancel. "-": as before.
LIVE = """
OFFERED   ACCEPTED      START     STARTING   ASSIGNED
OFFERED   STARTING      FENCED    -          -
OFFERED   RUNNING       FENCED    -          -
OFFERED   STOPPING      FENCED    -          -
OFFERED   EXITED        FENCED    -          -
OFFERED   QUARANTINED   FENCED    -          -
OFFERED   UNKNOWN_SHIM  FENCED    -          -
OFFERED   ENDED_WELL    FENCED    -          -
OFFERED   ENDED_BADLY   FENCED    -          -
OFFERED   NOT_STARTED   RELEASE   REJECTED   QUEUED
OFFERED   START_FAILED  FENCED    -          -
OFFERED   SHIM_DIED     FENCED    -          -
OFFERED   HOST_REBOOTED FENCED    -          -
STARTING  ACCEPTED      START     -          -
STARTING  STARTING      KEEP      -          -
STARTING  RUNNING       KEEP      RUNNING    RUNNING
STARTING  STOPPING      KEEP      -          -
STARTING  EXITED        SEND_EXIT -          -
STARTING  QUARANTINED   KEEP      -          -
STARTING  UNKNOWN_SHIM  KEEP      -          -
STARTING  ENDED_WELL    KEEP      SUCCEEDED  SUCCEEDED
STARTING  ENDED_BADLY   KEEP      FAILED     FAILED
STARTING  NOT_STARTED   KEEP      REJECTED   QUEUED
STARTING  START_FAILED  KEEP      FAILED     FAILED
STARTING  SHIM_DIED     KEEP      LOST       LOST
STARTING  HOST_REBOOTED KEEP      LOST       LOST
RUNNING   ACCEPTED      KEEP      -          -
RUNNING   STARTING      KEEP      -          -
RUNNING   RUNNING       KEEP      -          -
RUNNING   STOPPING      KEEP      -          -
RUNNING   EXITED        SEND_EXIT -          -
RUNNING   QUARANTINED   KEEP      -          -
RUNNING   UNKNOWN_SHIM  KEEP      -          -
RUNNING   ENDED_WELL    KEEP      SUCCEEDED  SUCCEEDED
RUNNING   ENDED_BADLY   KEEP      FAILED     FAILED
RUNNING   NOT_STARTED   KEEP      LOST       LOST
RUNNING   START_FAILED  KEEP      LOST       LOST
RUNNING   SHIM_DIED     KEEP      LOST       LOST
RUNNING   HOST_REBOOTED KEEP      LOST       LOST
STOPPING  ACCEPTED      STOP      -          -
STOPPING  STARTING      STOP      -          -
STOPPING  RUNNING       STOP      -          -
STOPPING  STOPPING      STOP      -          -
STOPPING  EXITED        SEND_EXIT -          -
STOPPING  QUARANTINED   STOP      -          -
STOPPING  UNKNOWN_SHIM  STOP      -          -
STOPPING  ENDED_WELL    KEEP      CANCELLED  CANCELLED
STOPPING  ENDED_BADLY   KEEP      CANCELLED  CANCELLED
STOPPING  NOT_STARTED   KEEP      CANCELLED  CANCELLED
STOPPING  START_FAILED  KEEP      CANCELLED  CANCELLED
STOPPING  SHIM_DIED     KEEP      LOST       CANCELLED
STOPPING  HOST_REBOOTED KEEP      LOST       CANCELLED
"""
UNRENEWED = {
    *((state, phase) for state in ("STARTING", "RUNNING", "STOPPING") for phase in ("QUARANTINED", "UNKNOWN_SHIM")),
    ("RUNNING", "ACCEPTED"),
}


def statement(word: str):  # type: ignore[no-untyped-def]
    if word in ExitOutcome.__members__:
        return held(HeldPhase.EXITED, exit_record(ExitOutcome(word)))
    return held(HeldPhase(word))


def rows() -> list[tuple[str, ...]]:
    return [tuple(line.split()) for line in LIVE.strip().splitlines()]


def test_the_table_names_every_pair() -> None:
    named = {(row[0], row[1]) for row in rows()}
    words = [*HeldPhase, *ExitOutcome]
    assert named == {(str(state), str(word)) for state in ATTEMPT_LIVE for word in words}
    assert len(rows()) == len(named)


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]}-{row[1]}")
def test_verdict_and_effect(row: tuple[str, ...]) -> None:
    state, word, verdict, attempt_after, run_after = row
    before = case(AttemptState(state))
    judgement = judge(statement(word), HOLDER, before, AT)
    after = judgement.case
    assert judgement.verdict is not None
    assert after is not None
    assert after.attempt is not None
    assert judgement.verdict.kind == verdict
    assert after.attempt.state == (state if attempt_after == "-" else attempt_after)
    assert after.run.state == (before.run.state if run_after == "-" else run_after)
    kept = verdict in ("KEEP", "START", "STOP", "SEND_EXIT") and word not in ExitOutcome.__members__
    assert judgement.verdict.renewed == (kept and (state, word) not in UNRENEWED)
    assert bool(after.events) == (after.run.state != before.run.state or after.attempt.state != state)
    if after.run.state in RUN_TERMINAL:
        assert after.run.reason is not None
        assert after.run.error_message
        assert after.run.completed_at == NOW


@pytest.mark.parametrize("row", [row for row in rows() if row[2] != "FENCED"], ids=lambda row: f"{row[0]}-{row[1]}")
def test_the_same_statement_again_moves_nothing(row: tuple[str, ...]) -> None:
    once = judge(statement(row[1]), HOLDER, case(AttemptState(row[0])), AT).case
    assert once is not None
    stored = replace(once, events=(), sends=())
    again = judge(statement(row[1]), HOLDER, stored, AT).case
    assert again == stored


@pytest.mark.parametrize("state", sorted(ATTEMPT_TERMINAL - {AttemptState.REJECTED}))
@pytest.mark.parametrize("phase", [phase for phase in HeldPhase if phase is not HeldPhase.EXITED])
def test_what_still_lives_after_the_end_is_fenced(state: AttemptState, phase: HeldPhase) -> None:
    before = case(state)
    judgement = judge(held(phase), HOLDER, before, AT)
    assert judgement.case == before
    assert judgement.verdict is not None
    kept_for_a_person = phase is HeldPhase.QUARANTINED
    assert judgement.verdict.kind is (VerdictKind.KEEP if kept_for_a_person else VerdictKind.FENCED)
    assert not judgement.verdict.renewed


@pytest.mark.parametrize("state", sorted(ATTEMPT_TERMINAL - {AttemptState.REJECTED}))
@pytest.mark.parametrize("outcome", ExitOutcome)
def test_a_late_exit_is_evidence_and_moves_nothing(state: AttemptState, outcome: ExitOutcome) -> None:
    before = case(state)
    judgement = judge(held(HeldPhase.EXITED, exit_record(outcome)), HOLDER, before, AT)
    after = judgement.case
    assert after is not None
    assert after.attempt is not None
    assert (after.attempt.state, after.run.state) == (state, before.run.state)
    assert after.attempt.exit_stored
    assert after.attempt.final_offset == 10
    assert [event.type for event in after.events] == ["EVIDENCE_ADDED"]
    again = judge(held(HeldPhase.EXITED, exit_record(outcome)), HOLDER, replace(after, events=()), AT)
    assert again.case == replace(after, events=())
    assert again.verdict is not None
    assert (again.verdict.kind, again.verdict.exit_stored) == (VerdictKind.KEEP, True)


def test_a_log_that_is_sealed_releases_the_attempt() -> None:
    sealed = case(AttemptState.SUCCEEDED)
    sealed = replace(sealed, attempt=replace(sealed.live, exit_stored=True, log_sealed_at=NOW))
    for statement_ in (held(HeldPhase.EXITED), held(HeldPhase.EXITED, exit_record())):
        judgement = judge(statement_, HOLDER, sealed, AT)
        assert judgement.verdict is not None
        assert judgement.verdict.kind is VerdictKind.RELEASE


def test_an_unknown_run_and_an_epoch_from_the_future_are_kept_but_not_renewed() -> None:
    """A restored backup: nothing is killed on an old database's word."""
    future = AttemptKey(run_id=KEY.run_id, lease_epoch=2)
    for known, key in ((None, KEY), (case(AttemptState.RUNNING), future), (case(), KEY)):
        for phase in HeldPhase:
            judgement = judge(held(phase, key=key), HOLDER, known, AT)
            assert judgement.verdict is not None
            assert (judgement.verdict.kind, judgement.verdict.renewed) == (VerdictKind.UNKNOWN, False)
            assert judgement.case == known


@pytest.mark.parametrize("who", [CLONE, STRANGER], ids=["clone", "stranger"])
@pytest.mark.parametrize("state", sorted(set(AttemptState) - {AttemptState.OFFERED, AttemptState.REJECTED}))
@pytest.mark.parametrize("phase", HeldPhase)
def test_only_the_holder_speaks_for_an_attempt(who, state: AttemptState, phase: HeldPhase) -> None:  # type: ignore[no-untyped-def]
    before = case(state)
    judgement = judge(held(phase, exit_record()), who, before, AT)
    assert judgement.case == before
    assert judgement.verdict is not None
    assert judgement.verdict.kind is VerdictKind.FENCED


def test_an_older_attempt_is_fenced_and_its_evidence_is_still_taken() -> None:
    newer = replace(case(AttemptState.LOST), run=run(RunState.ASSIGNED, lease_epoch=2, infra_retries=1))
    fenced = judge(held(HeldPhase.RUNNING), HOLDER, newer, AT)
    assert fenced.verdict is not None
    assert fenced.verdict.kind is VerdictKind.FENCED
    assert fenced.verdict.stop is not None
    late = judge(held(HeldPhase.EXITED, exit_record()), HOLDER, newer, AT)
    assert late.case is not None
    assert late.case.run == newer.run
    assert late.case.live.exit_stored
    assert late.case.live.kill_confirmed


def test_an_offer_that_came_to_nothing_is_dropped_by_who_accepted_too_late() -> None:
    withdrawn = case(AttemptState.REJECTED)
    for gone in (withdrawn, replace(withdrawn, attempt=None)):
        fenced = judge(held(HeldPhase.ACCEPTED), HOLDER, gone, AT)
        assert fenced.verdict is not None
        assert fenced.verdict.kind is VerdictKind.FENCED
        over = judge(held(HeldPhase.EXITED, exit_record(ExitOutcome.NOT_STARTED)), HOLDER, gone, AT)
        assert over.verdict is not None
        assert over.verdict.kind is VerdictKind.RELEASE
        assert over.case == gone


def test_the_holder_is_fixed_by_the_acceptance() -> None:
    accepted = judge_reply(OfferReply(key=KEY, accept=True), HOLDER, case(AttemptState.OFFERED), AT)
    assert accepted.case is not None
    assert accepted.case.live.holder == HOLDER
    assert accepted.case.live.assigned_at == NOW
    assert accepted.verdict is not None
    assert accepted.verdict.kind is VerdictKind.START


def test_an_acceptance_of_somebody_elses_offer_is_fenced() -> None:
    before = case(AttemptState.OFFERED)
    judgement = judge_reply(OfferReply(key=KEY, accept=True), STRANGER, before, AT)
    assert judgement.case == before
    assert judgement.verdict is not None
    assert judgement.verdict.kind is VerdictKind.FENCED


def test_a_repeated_acceptance_gives_the_assignment_again_until_it_runs() -> None:
    reply = OfferReply(key=KEY, accept=True)
    again = judge_reply(reply, HOLDER, case(AttemptState.STARTING), AT)
    assert again.verdict is not None
    assert again.verdict.kind is VerdictKind.START
    late = judge_reply(reply, HOLDER, case(AttemptState.RUNNING), AT)
    assert late.verdict is None
    stopped = judge_reply(reply, HOLDER, case(AttemptState.STOPPING), AT)
    assert stopped.verdict is not None
    assert stopped.verdict.kind is VerdictKind.STOP


@pytest.mark.parametrize("state", AttemptState)
def test_a_refusal_counts_only_for_an_open_offer_of_its_runner(state: AttemptState) -> None:
    reply = OfferReply(key=KEY, accept=False, reject_reason=RejectReason.LOW_DISK, note="2 GB left")
    before = case(state)
    after = judge_reply(reply, HOLDER, before, AT).case
    assert judge_reply(reply, STRANGER, before, AT).case == before
    assert after is not None
    if state is AttemptState.OFFERED:
        assert (after.live.state, after.run.state, after.run.queue_rank) == ("REJECTED", "QUEUED", 0)
        assert after.live.error_message == "LOW_DISK: 2 GB left"
    else:
        assert after == before


def test_started_moves_once_and_keeps_host_times_in_order() -> None:
    report = AttemptStarted(key=KEY, pid=77, started_at=NOW.replace(year=2040))
    judgement = judge_started(report, HOLDER, case(AttemptState.STARTING), AT)
    assert judgement.verdict is None
    assert judgement.case is not None
    assert judgement.case.live.pid == 77
    assert judgement.case.live.started_at == NOW
    stored = replace(judgement.case, events=())
    assert judge_started(report, HOLDER, stored, AT).case == stored


def test_started_of_a_finished_attempt_is_fenced() -> None:
    judgement = judge_started(AttemptStarted(key=KEY), HOLDER, case(AttemptState.LOST), AT)
    assert judgement.verdict is not None
    assert judgement.verdict.kind is VerdictKind.FENCED


def test_stop_phases_only_go_forwards() -> None:
    stopping = case(AttemptState.STOPPING)
    signalled = judge_stop_status(StopStatus(key=KEY, phase=StopPhase.SIGNALLED), HOLDER, stopping, AT).case
    assert signalled is not None
    assert signalled.live.stop is not None
    assert signalled.live.stop.phase is StopPhase.SIGNALLED
    assert signalled.live.stop.signalled_at == NOW
    late = judge_stop_status(StopStatus(key=KEY, phase=StopPhase.RECEIVED), HOLDER, signalled, AT).case
    assert late == signalled
    assert judge_stop_status(StopStatus(key=KEY, phase=StopPhase.KILLED), CLONE, stopping, AT).case == stopping


def test_the_end_of_a_step_implies_the_start_and_is_kept_once() -> None:
    report = AttemptEventReport(key=KEY, step_ended=StepResult(index=0, kind=StepKind.MAIN, exit_code=0))
    after = judge_step(report, HOLDER, case(AttemptState.STARTING), AT).case
    assert after is not None
    assert after.live.state is AttemptState.RUNNING
    assert len(after.live.steps) == 1
    stored = replace(after, events=())
    assert judge_step(report, HOLDER, stored, AT).case == stored
    assert judge_step(report, STRANGER, stored, AT).case == stored


@pytest.mark.parametrize(
    "step",
    [
        StepResult(index=0, kind=StepKind.MAIN, error_message="no such program"),
        StepResult(index=0, kind=StepKind.CHECKOUT, exit_code=0),
    ],
    ids=["not-executed", "preparation"],
)
def test_a_step_that_is_no_executed_main_step_implies_no_start(step: StepResult) -> None:
    report = AttemptEventReport(key=KEY, step_ended=step)
    after = judge_step(report, HOLDER, case(AttemptState.STARTING), AT).case
    assert after is not None
    assert (after.live.state, after.live.steps) == (AttemptState.STARTING, (step,))


@pytest.mark.parametrize("state", AttemptState)
def test_the_loss_clock_moves_only_what_is_held(state: AttemptState) -> None:
    before = case(state)
    after = judge_silence(before, AT)
    if state in (AttemptState.STARTING, AttemptState.RUNNING):
        assert (after.live.state, after.run.state, after.run.reason) == ("LOST", "LOST", Reason.RUNNER_LOST)
        assert not after.run.kill_confirmed
    elif state is AttemptState.STOPPING:
        assert (after.live.state, after.run.state, after.run.reason) == ("LOST", "CANCELLED", Reason.USER_CANCEL)
    else:
        assert after == before


def test_an_exit_of_a_run_that_was_forced_is_evidence() -> None:
    forced = replace(case(AttemptState.CANCELLED), run=run(RunState.CANCELLED, lease_epoch=2))
    after = judge_exited(AttemptExited(key=KEY, exit=exit_record()), HOLDER, forced, AT).case
    assert after is not None
    assert after.run.state is RunState.CANCELLED
    assert after.run.kill_confirmed
    assert after.run.exit_code == 0


def test_exit_in_starting_records_both_moves() -> None:
    after = judge_exited(AttemptExited(key=KEY, exit=exit_record()), HOLDER, case(AttemptState.STARTING), AT).case
    assert after is not None
    assert [event.type for event in after.events] == ["STARTED", "SUCCEEDED"]


def test_a_held_attempt_under_an_older_fence_moves_nothing() -> None:
    """The run's fence went on, whatever the attempt's row says: only evidence counts."""
    older = replace(case(AttemptState.RUNNING), run=run(RunState.RUNNING, lease_epoch=2))
    fenced = judge(held(HeldPhase.RUNNING), HOLDER, older, AT)
    assert fenced.case == older
    assert fenced.verdict is not None
    assert fenced.verdict.kind is VerdictKind.FENCED
    assert judge_silence(older, AT) == older
