"""What the clocks do when they ring: offers, starts, stops, losses, queue timeouts and deadlines."""

import asyncio
from collections.abc import Callable
from functools import partial

from control_plane.domain.attempt import AttemptState, StopPhase
from control_plane.domain.case import Case
from control_plane.domain.clocks import Alarm, Ring
from control_plane.domain.ids import AttemptKey, RunId
from control_plane.domain.offers import withdraw as decide_withdraw
from control_plane.domain.protocol import judge_silence, state_fence
from control_plane.domain.reason import Reason
from control_plane.domain.run import RunState
from control_plane.domain.stops import expire, stop_by_timeout, stop_message
from control_plane.lifecycle.attempts import withdraw
from control_plane.lifecycle.house import House, load, load_newest, store
from control_plane.storage import reads
from control_plane.storage.database import Connection
from control_plane.telemetry import logger

log = logger("lifecycle")

_RUNS_A_VERB = 64
_ALARMS_A_TICK = 500


async def load_clocks(house: House) -> int:
    """At the server's start: every live attempt's clocks start anew, also its loss clock. How many there are."""

    def body(conn: Connection) -> tuple[Case, ...]:
        cases = (load(house, conn, attempt.key) for attempt in reads.live_attempts(conn))
        return tuple(case for case in cases if case is not None)

    now_s = house.clock.monotonic_s()
    cases = await house.database.read(body)
    for case in cases:
        if case.attempt is not None:
            house.clocks.follow(case.attempt, case.spec, now_s)
    return len(cases)


async def tick(house: House, period_s: float = 1.0) -> None:
    """Once a second: everything whose time has come. What fails is rung again at the next tick."""
    alarms = house.clocks.tick(house.clock.monotonic_s(), period_s)[:_ALARMS_A_TICK]
    async with asyncio.TaskGroup() as group:
        for alarm in alarms:
            group.create_task(_guarded(house, alarm), name=f"{alarm.ring} {alarm.key.run_id}")
    await _due(house)


async def _guarded(house: House, alarm: Alarm) -> None:
    """Side by side, so that they share a commit; one that fails keeps nobody else from ringing."""
    try:
        await ring(house, alarm)
    except Exception:  # the others' clocks must go on
        log.exception("an alarm failed", ring=str(alarm.ring), run=alarm.key.run_id, epoch=alarm.key.lease_epoch)


async def ring(house: House, alarm: Alarm) -> None:
    """Do what one alarm asks for; an alarm that comes too late changes nothing."""
    match alarm.ring:
        case Ring.OFFER:
            if not await withdraw(house, alarm.key, Reason.OFFER_EXPIRED, "it did not answer the offer in time"):
                await _look_again(house, alarm.key)
        case Ring.START:
            await _move(house, alarm.key, partial(_start_timed_out, house))
        case Ring.LOSS:
            await _move(house, alarm.key, partial(_silent, house))
        case Ring.STOP_SILENT:
            await _stop_again(house, alarm.key)


async def _move(house: House, key: AttemptKey, decide: Callable[[Case], Case]) -> None:
    """One alarm in one transaction; an alarm that comes too late changes nothing and is forgotten."""

    def body(conn: Connection) -> tuple[Case, ...]:
        before = load(house, conn, key)
        if before is None or before.attempt is None:
            return ()
        after = decide(before)
        return () if after == before else (store(conn, before, after),)

    if not await house.database.write(body, name="alarm", after=house.told):
        await _look_again(house, key)


async def _look_again(house: House, key: AttemptKey) -> None:
    """The attempt is not where its clock thought: set the clock by what is stored."""
    case = await house.database.read(lambda conn: load(house, conn, key))
    if case is None or case.attempt is None:
        house.clocks.forget(key)
    else:
        house.clocks.follow(case.attempt, case.spec, house.clock.monotonic_s())


def _start_timed_out(house: House, case: Case) -> Case:
    if not state_fence(case) or case.live.state is not AttemptState.STARTING:
        return case
    return stop_by_timeout(case, Reason.START_TIMEOUT, house.clock.now())


def _silent(house: House, case: Case) -> Case:
    """Asked again inside the transaction: a heartbeat may have renewed it since the alarm."""
    lost_at_s = house.clocks.lost_at_s(case.live.key)
    if lost_at_s is None or house.clock.monotonic_s() < lost_at_s:
        return case
    return judge_silence(case, house.instant())


async def _stop_again(house: House, key: AttemptKey) -> None:
    """A stop that nobody confirmed is said again; it is a row, so this changes nothing."""
    case = await house.database.read(lambda conn: load(house, conn, key))
    if case is None or case.attempt is None or case.attempt.stop is None or not state_fence(case):
        house.clocks.forget(key)
        return
    house.clocks.stop_heard(key, house.clock.monotonic_s())
    if case.attempt.stop.phase is StopPhase.REQUESTED:
        house.post(case.attempt.runner_id, stop_message(case))


async def _due(house: House) -> None:
    """Queue timeouts and deadlines. Their bases are instants that were promised to people, so they go by wall time."""
    failed: set[RunId] = set()
    while True:
        most = _RUNS_A_VERB + len(failed)
        found = await house.database.read(partial(reads.due_runs, now=house.clock.now(), limit=most))
        due = tuple(run_id for run_id in found if run_id not in failed)
        if not due:
            return
        failed |= await _pass_each(house, due)


async def _pass_each(house: House, due: tuple[RunId, ...]) -> set[RunId]:
    """The runs that could not be moved: they are tried again at the next tick, and hold nobody else up."""

    async def one(run_id: RunId) -> bool:
        try:
            cases = await house.database.write(partial(_pass_due, house, run_id), name="due", after=house.told)
        except Exception:  # the others' deadlines must be kept
            log.exception("a run past its time could not be ended", run=run_id)
            return False
        return bool(cases)

    async with asyncio.TaskGroup() as group:
        tasks = {run_id: group.create_task(one(run_id), name=f"due {run_id}") for run_id in due}
    return {run_id for run_id, task in tasks.items() if not task.result()}


def _pass_due(house: House, run_id: RunId, conn: Connection) -> tuple[Case, ...]:
    before = load_newest(house, conn, run_id)
    after = None if before is None else _past_due(house, before)
    if before is None or after is None or after == before:
        return ()
    return (store(conn, before, after),)


def _past_due(house: House, case: Case) -> Case:
    now, run = house.clock.now(), case.run
    if run.due_at is None or run.due_at > now:
        return case
    if run.state is RunState.QUEUED:
        by_deadline = run.deadline is not None and run.deadline <= run.due_at
        return expire(case, Reason.DEADLINE_PASSED if by_deadline else Reason.QUEUE_TIMEOUT, now)
    if case.live.state is AttemptState.OFFERED:
        case = decide_withdraw(case, Reason.DEADLINE_PASSED, "", now)
        return expire(case, Reason.DEADLINE_PASSED, now) if case.run.state is RunState.QUEUED else case
    return stop_by_timeout(case, Reason.DEADLINE_PASSED, now) if state_fence(case) else case
