"""The session's verbs against a real database: one transaction each, answered after the commit."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from control_plane.domain import limits
from control_plane.domain.attempt import StopPhase
from control_plane.domain.clocks import Alarm, Ring
from control_plane.domain.ids import AttemptKey, Holder
from control_plane.domain.placement import Match
from control_plane.domain.reason import Reason
from control_plane.domain.session import (
    Assignment,
    ExitOutcome,
    Fenced,
    HeldAttempt,
    HeldPhase,
    Offer,
    OfferReply,
    RejectReason,
    Release,
    Stop,
    StopStatus,
    Withdraw,
)
from control_plane.domain.spec import EnvVar, OnLost
from control_plane.domain.stops import CancelOrder
from control_plane.lifecycle import attempts, clocks, reports, runs, secrets
from control_plane.storage import reads
from control_plane.storage.database import Connection
from tests.fakes.cases import exit_record, spec
from tests.fakes.world import World

WELL = exit_record(ended_at=None)
BADLY = exit_record(ExitOutcome.ENDED_BADLY, ended_at=None)


async def test_a_run_from_submit_to_settled(world: World, holder: Holder) -> None:
    run = await world.submit(title="hello")
    assert await world.place(holder) == {}
    offer = world.offer()
    assert (offer.key, offer.summary) == (AttemptKey(run_id=run.id, lease_epoch=1), "hello")
    await world.accept(offer.key, holder)
    assignment = world.assignment()
    assert assignment.spec.steps[0].command.argv == ("true",)
    assert assignment.lost_after_s == 86_400.0
    assert assignment.env["BANKSMAN_RUN_ID"] == run.id
    assert assignment.project_name == "default"
    await world.started(offer.key, holder)
    await world.exited(offer.key, holder, WELL)
    ended = await world.stored(run.id)
    assert (ended.state, ended.reason, ended.exit_code, ended.kill_confirmed) == ("SUCCEEDED", "EXIT_ZERO", 0, True)
    assert ended.settled_at is None
    assert await world.sealed(offer.key)
    assert (await world.stored(run.id)).settled_at == world.clock.now()
    assert await world.kinds(run.id) == ["CREATED", "OFFERED", "ACCEPTED", "STARTED", "SUCCEEDED", "SETTLED"]
    verdict = await world.beat(holder, offer.key, HeldPhase.EXITED, WELL)
    assert verdict.kind == "RELEASE"


async def test_a_heartbeat_that_changes_nothing_writes_nothing(world: World, holder: Holder) -> None:
    key = await world.running(await world.submit(), holder)
    before = await world.writes_done()
    for _ in range(3):
        assert (await world.beat(holder, key, HeldPhase.RUNNING)).renewed
    assert await reports.heartbeat(world.house, holder, []) == ()
    assert await world.writes_done() == before


async def test_every_lost_message_is_healed_by_the_next_heartbeat(world: World, holder: Holder) -> None:
    key = await world.offered(await world.submit(), holder)
    started = await world.beat(holder, key, HeldPhase.ACCEPTED)
    assert started.kind == "START"
    assert isinstance(started.assignment, Assignment)
    assert (await world.beat(holder, key, HeldPhase.ACCEPTED)).assignment == started.assignment
    assert (await world.beat(holder, key, HeldPhase.RUNNING)).kind == "KEEP"
    assert (await world.stored(key.run_id)).state == "RUNNING"
    ended = await world.beat(holder, key, HeldPhase.EXITED, BADLY)
    assert (ended.kind, ended.exit_stored) == ("KEEP", True)
    assert (await world.stored(key.run_id)).state == "FAILED"


async def test_repeated_reports_store_one_row_each(world: World, holder: Holder) -> None:
    run = await world.submit()
    key = await world.offered(run, holder)
    for _ in range(2):
        await world.accept(key, holder)
        await world.started(key, holder)
    for _ in range(3):
        await world.exited(key, holder, BADLY)
    assert await world.kinds(run.id) == ["CREATED", "OFFERED", "ACCEPTED", "STARTED", "FAILED"]


async def test_a_stranger_and_a_clone_change_nothing(world: World, holder: Holder) -> None:
    run = await world.submit()
    key = await world.running(run, holder)
    clone = replace(holder, state_directory_id="copied")
    stranger = await world.runner("r2")
    before = (await world.stored(run.id), await world.attempt(key))
    for other in (clone, stranger):
        await world.started(key, other)
        await world.exited(key, other, WELL)
        await reports.stop_status(world.house, other, StopStatus(key=key, phase=StopPhase.KILLED))
        assert world.last() == Fenced(key=key, current_lease_epoch=1)
    assert (await world.stored(run.id), await world.attempt(key)) == before


async def test_a_lost_run_is_retried_elsewhere_and_the_first_host_is_fenced(world: World, holder: Holder) -> None:
    run = await world.submit(spec(on_lost=OnLost.RETRY, lost_after_s=60.0))
    first = await world.running(run, holder)
    await world.tick(60.0 + 10.0 + 30.0)
    assert (await world.stored(run.id)).state == "RUNNING"
    await world.tick()
    lost = await world.stored(run.id)
    assert (lost.state, lost.infra_retries, lost.retry_count) == ("QUEUED", 1, 1)
    await world.tick(300.0)
    other = await world.runner("r2")
    second = await world.offered(run, other)
    assert second.lease_epoch == first.lease_epoch + 1
    assert (await world.attempt(second)).number == 2
    assert (await world.beat(holder, first, HeldPhase.RUNNING)).kind == "FENCED"
    await world.accept(second, other)
    killed = exit_record(ExitOutcome.ENDED_BADLY, exit_code=None, signal=9)
    await world.exited(first, holder, killed)
    assert (await world.stored(run.id)).state == "ASSIGNED"
    assert (await world.attempt(first)).kill_confirmed
    await world.exited(second, other, WELL)
    ended = await world.stored(run.id)
    assert (ended.state, ended.kill_confirmed, ended.settled_at) == ("SUCCEEDED", True, None)
    assert await world.sealed(first)
    assert (await world.stored(run.id)).settled_at is None
    assert await world.sealed(second)
    assert (await world.stored(run.id)).settled_at is not None


async def test_a_heartbeat_renews_only_what_it_lists(world: World, holder: Holder) -> None:
    of = spec(lost_after_s=60.0)
    listed = await world.running(await world.submit(of), holder)
    unlisted = await world.running(await world.submit(of), holder)
    await world.tick(90.0)
    await world.beat(holder, listed, HeldPhase.RUNNING)
    await world.tick(20.0)
    assert (await world.stored(listed.run_id)).state == "RUNNING"
    lost = await world.stored(unlisted.run_id)
    assert (lost.state, lost.reason, lost.kill_confirmed) == ("LOST", "RUNNER_LOST", False)


async def test_a_restart_gives_every_attempt_its_whole_time_again(world: World, holder: Holder) -> None:
    key = await world.running(await world.submit(spec(lost_after_s=60.0)), holder)
    world.clock.advance(90.0)
    await world.restart()
    await world.tick(100.0)
    assert (await world.stored(key.run_id)).state == "RUNNING"
    await world.tick(1.0)
    assert (await world.stored(key.run_id)).state == "LOST"


async def test_a_pause_of_the_server_costs_no_run(world: World, holder: Holder) -> None:
    key = await world.running(await world.submit(spec(lost_after_s=60.0)), holder)
    await world.tick()
    last = world.house.clocks.last_tick_s
    world.clock.advance(3_600.0)
    world.house.clocks.last_tick_s = last
    await clocks.tick(world.house)
    assert (await world.stored(key.run_id)).state == "RUNNING"


async def test_an_offer_that_is_not_answered_comes_back_to_the_front(world: World, holder: Holder) -> None:
    run = await world.submit()
    key = await world.offered(run, holder)
    await world.tick(9.0)
    assert (await world.stored(run.id)).state == "ASSIGNED"
    await world.tick(1.0)
    queued = await world.stored(run.id)
    assert (queued.state, queued.queue_rank, queued.rejected_count) == ("QUEUED", 0, 1)
    assert world.last() == Withdraw(key=key)
    assert (await world.attempt(key)).reason is Reason.OFFER_EXPIRED
    assert "refused it" in (await world.place(holder))[run.id]
    await world.accept(key, holder)
    assert world.last() == Fenced(key=key, current_lease_epoch=1)
    world.clock.advance(5.0)
    assert await world.place(holder) == {}


async def test_a_refusal_is_shown_and_only_twenty_are_kept(world: World, holder: Holder) -> None:
    run = await world.submit()
    for _ in range(limits.REJECTED_ROWS_KEPT + 5):
        key = await world.offered(run, holder)
        reply = OfferReply(key=key, accept=False, reject_reason=RejectReason.NO_SLOT, note="full")
        await reports.offer_reply(world.house, holder, reply)
    stored = await world.stored(run.id)
    assert (stored.state, stored.rejected_count, stored.infra_retries) == ("QUEUED", 25, 0)
    kept = await world.house.database.read(lambda conn: reads.attempts(conn, run.id))
    assert [each.lease_epoch for each in kept] == list(range(25, 5, -1))
    assert (await world.place(holder))[run.id] == "Runner r1 refused it: NO_SLOT: full; it is asked again soon."


async def test_offers_respect_slots_inside_the_transaction(world: World, holder: Holder) -> None:
    three = [await world.submit() for _ in range(3)]
    matches = [Match(run_id=run.id, runner_id=holder.runner_id) for run in three]
    keys = await attempts.offer(world.house, [*matches, matches[0]])
    assert [key.run_id for key in keys] == [three[0].id, three[1].id]
    assert [type(message) for _, message in world.posted] == [Offer, Offer]


async def test_the_start_timeout_stops_an_attempt_and_resends(world: World, holder: Holder) -> None:
    run = await world.submit(replace(spec(), start_timeout_s=20.0))
    key = await world.offered(run, holder)
    await world.accept(key, holder)
    await world.tick(20.0)
    assert isinstance(world.last(), Stop)
    assert (await world.attempt(key)).state == "STOPPING"
    sent = len(world.posted)
    await world.tick(4.0)
    assert len(world.posted) == sent
    clone = replace(holder, state_directory_id="copied")
    await reports.stop_status(world.house, clone, StopStatus(key=key, phase=StopPhase.SIGNALLED))
    await world.tick(1.0)
    assert world.posted[-1] == world.posted[-2]
    await reports.stop_status(world.house, holder, StopStatus(key=key, phase=StopPhase.SIGNALLED))
    await world.tick(10.0)
    assert len(world.posted) == sent + 1
    await world.exited(key, holder, exit_record(ExitOutcome.NOT_STARTED))
    ended = await world.stored(run.id)
    assert (ended.state, ended.reason) == ("TIMED_OUT", "START_TIMEOUT")


async def test_queue_timeouts_and_deadlines(world: World, holder: Holder) -> None:
    patient = await world.submit()
    waiting = await world.submit(replace(spec(), queue_timeout_s=30.0))
    now = world.clock.now()
    queued = await world.submit(deadline=now + timedelta(seconds=40))
    offered = await world.submit(deadline=now + timedelta(seconds=40))
    running = await world.submit(deadline=now + timedelta(seconds=40))
    key = await world.running(running, holder)
    await world.tick(29.0)
    assert (await world.stored(waiting.id)).state == "QUEUED"
    await world.tick(1.0)
    assert (await world.stored(waiting.id)).reason is Reason.QUEUE_TIMEOUT
    await world.tick(8.0)
    offer_key = await world.offered(offered, holder)
    await world.tick(2.0)
    assert (await world.stored(queued.id)).reason is Reason.DEADLINE_PASSED
    assert (await world.stored(offered.id)).state == "EXPIRED"
    assert (await world.attempt(offer_key)).state == "REJECTED"
    assert (await world.attempt(key)).state == "STOPPING"
    assert (await world.stored(running.id)).state == "RUNNING"
    await world.exited(key, holder, BADLY)
    assert (await world.stored(running.id)).state == "TIMED_OUT"
    assert (await world.stored(patient.id)).state == "QUEUED"


async def test_a_queue_timeout_counts_from_not_before_and_not_after_an_assignment(world: World, holder: Holder) -> None:
    later = world.clock.now() + timedelta(seconds=100)
    run = await world.submit(replace(spec(), queue_timeout_s=30.0), not_before=later)
    assert await world.place(holder) == {}
    await world.tick(129.0)
    assert (await world.stored(run.id)).state == "QUEUED"
    key = await world.offered(run, holder)
    await world.accept(key, holder)
    await world.exited(key, holder, exit_record(ExitOutcome.NOT_STARTED))
    await world.tick(1_000.0)
    assert (await world.stored(run.id)).state == "QUEUED"


async def test_secrets_travel_only_in_the_assignment(world: World, holder: Holder) -> None:
    value = secrets.NewValue(project_id=world.project_id, name="TOKEN", value=b"hunter2hunter2")
    await secrets.put(world.house, world.caller(), value)
    of = replace(spec(), env=(EnvVar(name="T", secret_ref="TOKEN"),))
    key = await world.offered(await world.submit(of), holder)
    await world.accept(key, holder)
    assert world.assignment().secrets == {"TOKEN": b"hunter2hunter2"}
    assert b"hunter2" not in repr(world.assignment()).encode()


async def test_a_secret_that_has_gone_fails_the_start_and_fences_the_runner(world: World, holder: Holder) -> None:
    value = secrets.NewValue(project_id=world.project_id, name="TOKEN", value=b"hunter2hunter2")
    await secrets.put(world.house, world.caller(), value)
    of = replace(spec(max_attempts=5), env=(EnvVar(name="T", secret_ref="TOKEN"),))
    run = await world.submit(of)
    key = await world.offered(run, holder)
    await secrets.delete(world.house, world.caller(), world.project_id, "TOKEN")
    await world.accept(key, holder)
    assert isinstance(world.last(), Fenced)
    failed = await world.stored(run.id)
    assert (failed.state, failed.reason) == ("FAILED", "SECRET_UNAVAILABLE")
    assert "TOKEN" in failed.error_message
    await world.exited(key, holder, exit_record(ExitOutcome.NOT_STARTED))
    assert (await world.stored(run.id)).kill_confirmed


async def test_a_run_with_an_unknown_attempt_somewhere_is_offered_to_nobody(world: World, holder: Holder) -> None:
    """The database was restored: the runner holds a later attempt than the server ever offered."""
    run = await world.submit()
    ghost = AttemptKey(run_id=run.id, lease_epoch=9)
    verdict = await world.beat(holder, ghost, HeldPhase.RUNNING)
    assert (verdict.kind, verdict.renewed) == ("UNKNOWN", False)
    other = await world.runner("r2")
    assert "Runner r1 lists" in (await world.place(holder, other))[run.id]
    await reports.heartbeat(world.house, other, [])
    assert "Runner r1 lists" in (await world.place(holder, other))[run.id]
    await reports.heartbeat(world.house, holder, [])
    assert await world.place(holder, other) == {}


async def test_offers_are_taken_back_from_a_runner_that_leaves(world: World, holder: Holder) -> None:
    run = await world.submit()
    key = await world.offered(run, holder)
    assert await attempts.withdraw_offers(world.house, holder.runner_id, "drained") == 1
    assert world.last() == Withdraw(key=key)
    assert (await world.stored(run.id)).state == "QUEUED"


async def test_one_inventory_may_hold_two_attempts_of_one_run(world: World, holder: Holder) -> None:
    run = await world.submit(spec(max_attempts=2))
    first = await world.running(run, holder)
    await world.exited(first, holder, BADLY)
    world.clock.advance(10.0)
    second = await world.offered(run, holder)
    entries = [
        HeldAttempt(key=first, phase=HeldPhase.EXITED, exit=BADLY),
        HeldAttempt(key=second, phase=HeldPhase.ACCEPTED),
    ]
    verdicts = await reports.inventory(world.house, holder, entries)
    assert [str(verdict.kind) for verdict in verdicts] == ["KEEP", "START"]


async def test_a_released_report_says_so(world: World, holder: Holder) -> None:
    key = await world.running(await world.submit(), holder)
    await world.exited(key, holder, WELL)
    assert world.posted == []
    await world.sealed(key)
    await world.exited(key, holder, WELL)
    assert world.last() == Release(key=key)


@pytest.mark.parametrize("generation", [0, 3])
async def test_fences_carry_the_databases_generation(world: World, holder: Holder, generation: int) -> None:
    def raise_generation(conn: Connection) -> None:
        conn.execute(text("UPDATE server SET generation = :g"), {"g": generation})

    await world.house.database.write(raise_generation)
    key = await world.offered(await world.submit(), holder)
    assert key.lease_epoch == (generation << 48) + 1


async def test_cancel_while_the_assignment_is_on_its_way(world: World, holder: Holder) -> None:
    run = await world.submit()
    key = await world.offered(run, holder)
    await world.accept(key, holder)
    await runs.cancel(world.house, world.caller(), run.id, CancelOrder())
    assert isinstance(world.last(), Stop)
    assert (await world.beat(holder, key, HeldPhase.ACCEPTED)).kind == "STOP"
    await world.exited(key, holder, exit_record(ExitOutcome.NOT_STARTED))
    ended = await world.stored(run.id)
    assert (ended.state, ended.kill_confirmed) == ("CANCELLED", True)


@pytest.mark.parametrize("which", Ring)
async def test_an_alarm_that_was_overtaken_changes_nothing(world: World, holder: Holder, which: Ring) -> None:
    """Rung, and before its transaction began the runner was heard: the clock is asked again inside."""
    key = await world.running(await world.submit(spec(lost_after_s=60.0)), holder)
    before = (await world.stored(key.run_id), await world.attempt(key))
    await clocks.ring(world.house, Alarm(key=key, ring=which))
    assert (await world.stored(key.run_id), await world.attempt(key)) == before
    assert world.posted == []


async def test_one_clock_that_fails_keeps_no_other_from_ringing(world: World, holder: Holder) -> None:
    broken = await world.running(await world.submit(spec(lost_after_s=60.0)), holder)
    whole = await world.running(await world.submit(spec(lost_after_s=60.0)), holder)

    def contradict(conn: Connection) -> None:
        conn.execute(text("UPDATE runs SET state = 'QUEUED' WHERE id = :id"), {"id": broken.run_id})

    await world.house.database.write(contradict)
    await world.tick(101.0)
    assert (await world.stored(whole.run_id)).state == "LOST"
