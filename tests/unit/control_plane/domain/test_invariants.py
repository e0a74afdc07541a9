"""Whatever is said, in whatever order, by whomever, lost or twice: what must always hold on the server's side.

Seeded random walks over the product's own decisions: offers, cancels, clocks, and statements that runners could make,
also ones that no honest runner makes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.domain.attempt import ATTEMPT_LIVE, ATTEMPT_TERMINAL, Attempt, AttemptState, StepResult, StopPhase
from control_plane.domain.case import Case, concluded
from control_plane.domain.ends import Instant
from control_plane.domain.errors import FailedPrecondition
from control_plane.domain.history import TERMINAL_EVENT_TYPES, RunEventRecord
from control_plane.domain.ids import AttemptKey, Holder
from control_plane.domain.offers import offer, withdraw
from control_plane.domain.protocol import (
    judge,
    judge_exited,
    judge_reply,
    judge_silence,
    judge_started,
    judge_step,
    judge_stop_status,
    state_fence,
)
from control_plane.domain.reason import Reason
from control_plane.domain.run import RUN_TERMINAL, Run, RunState
from control_plane.domain.session import (
    AttemptEventReport,
    AttemptExited,
    AttemptStarted,
    ExitOutcome,
    ExitRecord,
    HeldAttempt,
    HeldPhase,
    OfferReply,
    StopStatus,
)
from control_plane.domain.spec import OnLost, StepKind
from control_plane.domain.stops import CancelOrder, cancel, expire, force, stop_by_timeout
from tests.fakes.cases import CLONE, HOLDER, NOW, RUN_ID, STRANGER, run, spec

STEPS = 80
SPEC = spec(on_lost=OnLost.RETRY, max_attempts=3, retry_on=("failed", "timeout"))
WHO = (HOLDER, CLONE, STRANGER)
STOPPED_BY = (None, None, None, Reason.RUN_TIMEOUT, Reason.RUNNER_SHUTDOWN, Reason.RUNNER_LOST, Reason.USER_CANCEL)
RUN_STATES = {
    AttemptState.OFFERED: {RunState.ASSIGNED},
    AttemptState.STARTING: {RunState.ASSIGNED},
    AttemptState.RUNNING: {RunState.RUNNING},
    AttemptState.STOPPING: {RunState.ASSIGNED, RunState.RUNNING, RunState.CANCELLING},
}


class Walk:
    """The database: one run, all its attempts, its history; every step is one transaction."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        deadline = NOW + timedelta(days=1)
        self.run: Run = run(deadline=deadline, due_at=deadline)
        self.attempts: dict[int, Attempt] = {}
        self.events: list[RunEventRecord] = []
        self.now = NOW

    def case(self, epoch: int) -> Case:
        others = tuple(each for e, each in self.attempts.items() if e != epoch and each.assigned_at is not None)
        return Case(run=self.run, spec=SPEC, attempt=self.attempts.get(epoch), others=others)

    def store(self, after: Case | None) -> None:
        if after is None:
            return
        self.run = after.run
        if after.attempt is not None:
            self.attempts[after.attempt.lease_epoch] = after.attempt
        self.events.extend(after.events)

    def step(self) -> None:
        self.now += timedelta(seconds=self.random.choice((0, 1, 30, 600)))
        moves: list[tuple[int, Callable[[], None]]] = [
            (6, self._offer),
            (14, self._speak),
            (14, self._report),
            (4, self._report_honestly),
            (2, self._clocks),
            (1, self._cancel),
            (2, self._seal),
        ]
        weights, actions = zip(*moves, strict=True)
        self.random.choices(actions, weights)[0]()

    # -- moves --------------------------------------------------------------------------------------------------------

    def _offer(self) -> None:
        newest = self.case(self.run.lease_epoch)
        if self.run.state is RunState.QUEUED and self.random.random() < 0.9:
            runner = self.random.choice(WHO).runner_id
            self.store(offer(newest, runner, self.run.lease_epoch + 1, 10.0, self.now))
        elif self.run.state is RunState.QUEUED:
            self.store(expire(newest, Reason.DEADLINE_PASSED, self.now))
        elif newest.attempt is not None and newest.attempt.state is AttemptState.OFFERED:
            self.store(withdraw(newest, Reason.OFFER_EXPIRED, "", self.now))

    def _speak(self) -> None:
        epoch, who = self._epoch(), self.random.choice(WHO)
        phase = self.random.choice(list(HeldPhase))
        record = self._record() if phase is HeldPhase.EXITED and self.random.random() < 0.8 else None
        key = AttemptKey(run_id=RUN_ID, lease_epoch=epoch)
        status = StopStatus(key=key, phase=self.random.choice(list(StopPhase)))
        held = HeldAttempt(key=key, phase=phase, exit=record, stop=self.random.choice((None, status)))
        self._told(epoch, who, judge(held, who, self._known(epoch), self._at()).case)

    def _report(self) -> None:
        epoch, who, at = self._epoch(), self.random.choice(WHO), self._at()
        key, known = AttemptKey(run_id=RUN_ID, lease_epoch=epoch), self._known(epoch)
        step = StepResult(index=self.random.randrange(3), kind=StepKind.MAIN, exit_code=0)
        after = self.random.choice(
            (
                lambda: judge_reply(OfferReply(key=key, accept=self.random.random() < 0.8), who, known, at),
                lambda: judge_started(AttemptStarted(key=key), who, known, at),
                lambda: judge_exited(AttemptExited(key=key, exit=self._record()), who, known, at),
                lambda: judge_stop_status(StopStatus(key=key, phase=StopPhase.SIGNALLED), who, known, at),
                lambda: judge_step(AttemptEventReport(key=key, step_ended=step), who, known, at),
            ),
        )()
        self._told(epoch, who, after.case)

    def _report_honestly(self) -> None:
        """So that walks get somewhere: the holder accepts, starts, ends."""
        newest = self.attempts.get(self.run.lease_epoch)
        if newest is None or newest.state not in ATTEMPT_LIVE:
            return
        who = next(each for each in WHO if each.runner_id == newest.runner_id)
        who = newest.holder or who
        phase = {"OFFERED": HeldPhase.ACCEPTED, "STARTING": HeldPhase.RUNNING}.get(newest.state, HeldPhase.EXITED)
        record = self._record() if phase is HeldPhase.EXITED else None
        held = HeldAttempt(key=newest.key, phase=phase, exit=record)
        self.store(judge(held, who, self.case(newest.lease_epoch), self._at()).case)

    def _clocks(self) -> None:
        newest = self.case(self.run.lease_epoch)
        if not state_fence(newest):
            return
        if self.random.random() < 0.5:
            self.store(judge_silence(newest, self._at()))
        else:
            self.store(
                stop_by_timeout(newest, self.random.choice((Reason.START_TIMEOUT, Reason.DEADLINE_PASSED)), self.now)
            )

    def _cancel(self) -> None:
        newest, order = self.case(self.run.lease_epoch), CancelOrder(actor="ann")
        try:
            if self.random.random() < 0.3:
                self.store(force(newest, order, self.run.lease_epoch + 1, self.now))
            else:
                self.store(cancel(newest, order, self.now))
        except FailedPrecondition:
            assert self.run.state in RUN_TERMINAL - {RunState.CANCELLED}

    def _seal(self) -> None:
        ended = [each for each in self.attempts.values() if each.exit_stored and each.log_sealed_at is None]
        if ended:
            chosen = self.random.choice(ended)
            case = self.case(chosen.lease_epoch)
            self.store(concluded(replace(case, attempt=replace(chosen, log_sealed_at=self.now)), self.now))

    # -- parts --------------------------------------------------------------------------------------------------------

    def _at(self) -> Instant:
        return Instant(now=self.now, jitter=self.random.random())

    def _epoch(self) -> int:
        return self.random.randint(1, self.run.lease_epoch + 1)

    def _known(self, epoch: int) -> Case:
        return self.case(epoch)

    def _record(self) -> ExitRecord:
        return ExitRecord(
            outcome=self.random.choice(list(ExitOutcome)),
            tree_empty=self.random.random() < 0.7,
            stopped_by=self.random.choice(STOPPED_BY),
            permanent=self.random.random() < 0.2,
        )

    def _told(self, epoch: int, who: Holder, after: Case | None) -> None:
        before = self.attempts.get(epoch)
        if before is not None and before.holder is not None and before.holder != who:
            assert after == self.case(epoch), "only its holder speaks for an attempt"
        if epoch > self.run.lease_epoch:
            assert after == self.case(epoch), "a fence that was never given moves nothing"
        self.store(after)


def check(before: tuple[Run, dict[int, Attempt]], walk: Walk) -> None:
    """What must hold across one step."""
    old_run, old_attempts = before
    new = walk.run
    assert new.lease_epoch >= old_run.lease_epoch
    if old_run.state in RUN_TERMINAL:
        assert (new.state, new.reason, new.completed_at) == (old_run.state, old_run.reason, old_run.completed_at)
    if old_run.cancel_requested_at is not None:
        assert new.state in (RunState.CANCELLING, RunState.CANCELLED)
        assert (new.cancelled_by, new.cancel_requested_at) == (old_run.cancelled_by, old_run.cancel_requested_at)
    for epoch, attempt in old_attempts.items():
        now = walk.attempts[epoch]
        if attempt.state in ATTEMPT_TERMINAL:
            assert (now.state, now.reason) == (attempt.state, attempt.reason)
        if attempt.exit_stored:
            assert (now.exit_code, now.kill_confirmed, now.final_offset) == (
                attempt.exit_code,
                attempt.kill_confirmed,
                attempt.final_offset,
            )
        if attempt.stop is not None:
            assert now.stop is not None
            assert now.stop.reason is attempt.stop.reason


def check_state(walk: Walk) -> None:
    """What must hold at every commit."""
    the_run, live = walk.run, [each for each in walk.attempts.values() if each.is_live]
    assert len(live) <= 1
    for attempt in live:
        assert attempt.lease_epoch == the_run.lease_epoch
        assert the_run.state in RUN_STATES[attempt.state]
    if not live:
        assert the_run.state in RUN_TERMINAL | {RunState.QUEUED}
    assert the_run.tries <= SPEC.retry.max_attempts
    ends = [event for event in walk.events if event.type in TERMINAL_EVENT_TYPES]
    terminal = the_run.state in RUN_TERMINAL
    assert len(ends) == (1 if terminal else 0)
    assert (the_run.reason is not None) == terminal
    assert (the_run.completed_at is not None) == terminal
    assigned = [each for each in walk.attempts.values() if each.assigned_at is not None]
    if terminal:
        assert the_run.kill_confirmed == all(each.kill_confirmed for each in assigned)
        assert (the_run.settled_at is not None) == all(each.log_sealed_at is not None for each in assigned)
        assert the_run.due_at is None
    else:
        assert not the_run.kill_confirmed
        assert the_run.settled_at is None
    if the_run.state is RunState.QUEUED:
        assert the_run.due_at == the_run.deadline
    numbers = [each.number for _, each in sorted(walk.attempts.items()) if each.state is not AttemptState.REJECTED]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("block", range(8))
def test_what_must_always_hold(block: int) -> None:
    for seed in range(block * 40, block * 40 + 40):
        walk = Walk(seed)
        for _ in range(STEPS):
            before = (walk.run, dict(walk.attempts))
            walk.step()
            check(before, walk)
            check_state(walk)


def test_the_walks_reach_every_state() -> None:
    runs, attempts = set(), set()
    for seed in range(320):
        walk = Walk(seed)
        for _ in range(STEPS):
            walk.step()
            runs.add(walk.run.state)
            attempts |= {each.state for each in walk.attempts.values()}
    assert runs == set(RunState) - {RunState.SKIPPED}
    assert attempts == set(AttemptState)
