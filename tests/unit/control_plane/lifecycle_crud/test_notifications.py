"""Deliveries: who is told of what, how long they are tried, and what becomes of their rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from control_plane.domain.errors import ErrorCode, NotFound
from control_plane.domain.ids import DeliveryId, PrincipalId, TaskId
from control_plane.domain.notification import TRIED_FOR_S, Delivery, DeliveryState, Outcome, headline
from control_plane.domain.principal import Caller, Principal, PrincipalKind
from control_plane.domain.run import Run
from control_plane.domain.stops import CancelOrder
from control_plane.domain.task import NotificationEvent, NotificationSettings, Task
from control_plane.lifecycle import clocks, housekeeping, notifications, runs, schedules, secrets, tasks
from control_plane.storage import reads
from tests.unit.control_plane.lifecycle_crud.conftest import SPEC, Stage
from tests.unit.control_plane.lifecycle_crud.test_schedules import MINUTELY, fire_due

FIRST_WAIT_S = 5.0
WEBHOOK = NotificationSettings(
    events=(NotificationEvent.CREATED, NotificationEvent.FINISHED, NotificationEvent.CANCELLED),
    webhook_url="https://hooks.example/a",
    secret_ref="HOOK",
)
CHANNEL = NotificationSettings(events=(NotificationEvent.CREATED, NotificationEvent.LOST), secret_ref="CHANNEL")


async def task(stage: Stage, *settings: NotificationSettings, **fields: Any) -> Task:
    await stage.keep(*{each.secret_ref for each in settings if each.secret_ref})
    new = tasks.NewTask(project_id=stage.default.id, name="told", spec=SPEC, notifications=settings, **fields)
    return await tasks.create(stage.house, stage.caller, new)


async def run(stage: Stage, made: Task) -> Run:
    return await runs.create(stage.house, stage.caller, runs.NewRun(project_id=made.project_id, task_id=made.id))


async def listed(stage: Stage, **wanted: Any) -> tuple[Delivery, ...]:
    chosen = reads.DeliveryFilter(**wanted)
    request = reads.PageRequest(page_size=1_000)
    query = partial(reads.list_deliveries, project_id=stage.default.id, request=request, wanted=chosen)
    return (await stage.house.database.read(query)).items


async def due(stage: Stage, **besides: Any) -> tuple[Delivery, ...]:
    words: dict[str, Any] = {"limit": 100, "besides": (), "besides_targets": ()} | besides
    return await notifications.due(stage.house, **words)


async def test_one_row_for_each_target_and_event(stage: Stage) -> None:
    made = await run(stage, await task(stage, WEBHOOK, CHANNEL))
    told = await due(stage)
    assert {(each.event, each.webhook_url, each.secret_ref) for each in told} == {
        (NotificationEvent.CREATED, "https://hooks.example/a", "HOOK"),
        (NotificationEvent.CREATED, "", "CHANNEL"),
    }
    await runs.cancel(stage.house, stage.caller, made.id, CancelOrder())
    await runs.cancel(stage.house, stage.caller, made.id, CancelOrder())
    events = sorted(each.event for each in await listed(stage, run_id=made.id))
    assert events == ["CANCELLED", "CREATED", "CREATED", "FINISHED"]


async def test_a_task_without_settings_costs_no_row_and_no_wake_up(stage: Stage) -> None:
    with stage.house.watch.subscribe(notifications.TOPIC) as wakeups:
        await run(stage, await task(stage))
        assert not await wakeups.wait(0)
        assert await listed(stage) == ()


async def test_it_is_tried_for_a_day_and_then_given_up(stage: Stage) -> None:
    await run(stage, await task(stage, CHANNEL))
    started, waits = stage.clock.now(), []
    (now,) = await due(stage)
    while now.state is DeliveryState.PENDING:
        assert await due(stage) == (now,)
        tried = await notifications.attempted(stage.house, now, Outcome(ok=False, error="no"), FIRST_WAIT_S)
        assert tried is not None
        now = tried
        assert await due(stage) == ()
        if now.next_attempt_at is not None:
            assert await notifications.next_at(stage.house, stage.clock.now()) == now.next_attempt_at
            waits.append((now.next_attempt_at - stage.clock.now()).total_seconds())
            stage.clock.advance(waits[-1])
    assert now.state is DeliveryState.FAILED
    assert waits[0] == pytest.approx(FIRST_WAIT_S, rel=0.11)
    assert 10 <= now.attempts <= 14
    assert timedelta(hours=19) < stage.clock.now() - started <= timedelta(seconds=TRIED_FOR_S)
    stage.clock.advance(TRIED_FOR_S)
    again = await notifications.redeliver(stage.house, now.id)
    assert (again.id, again.payload, again.state) == (now.id, now.payload, DeliveryState.PENDING)
    done = await notifications.attempted(stage.house, again, Outcome(ok=True, status=200), FIRST_WAIT_S)
    assert done is not None
    assert (done.state, done.error, done.next_attempt_at) == (DeliveryState.DELIVERED, "", None)


async def test_an_end_that_is_told_twice_counts_once(stage: Stage) -> None:
    await run(stage, await task(stage, CHANNEL))
    (told,) = await due(stage)
    assert await notifications.attempted(stage.house, told, Outcome(ok=True), FIRST_WAIT_S) is not None
    assert await notifications.attempted(stage.house, told, Outcome(ok=False), FIRST_WAIT_S) is None
    (kept,) = await listed(stage)
    assert kept.state is DeliveryState.DELIVERED


async def test_what_is_under_way_and_busy_receivers_are_passed_over(stage: Stage) -> None:
    await run(stage, await task(stage, WEBHOOK, CHANNEL))
    first, second = await due(stage)
    assert await due(stage, besides=(first.id,)) == (second,)
    assert await due(stage, besides_targets=(second.target,)) == (first,)
    assert await due(stage, limit=1) == (first,)


async def test_only_owners_and_admins_learn_of_deliveries(stage: Stage) -> None:
    made = await task(stage, CHANNEL, is_public=True)
    await run(stage, made)
    (told,) = await listed(stage)
    other = Principal(
        id=PrincipalId(stage.clock.new_id()),
        kind=PrincipalKind.USER,
        name="bob",
        project_ids=(stage.default.id,),
        created_at=stage.clock.now(),
    )
    assert await notifications.the_delivery(stage.house, stage.caller, told.id) == told
    for caller, text in ((Caller(principal=other), told.id), (stage.caller, stage.clock.new_id())):
        with pytest.raises(NotFound) as caught:
            await notifications.the_delivery(stage.house, caller, text)
        assert caught.value.code is ErrorCode.DELIVERY_NOT_FOUND
    assert await listed(stage, owner=other.id) == ()
    assert await listed(stage, owner=made.owner) == (told,)
    assert await listed(stage, task_id=TaskId("another")) == ()
    with pytest.raises(NotFound):
        await notifications.redeliver(stage.house, DeliveryId("none"))


async def test_old_ones_go_when_they_are_over(stage: Stage) -> None:
    await run(stage, await task(stage, WEBHOOK, CHANNEL))
    first, second = await due(stage)
    await notifications.attempted(stage.house, first, Outcome(ok=True), FIRST_WAIT_S)
    stage.clock.advance(31 * 86_400)
    assert (await housekeeping.sweep(stage.house, housekeeping.Keep())).deliveries == 1
    assert [each.id for each in await listed(stage)] == [second.id]


async def test_a_secret_is_read_when_it_is_needed(stage: Stage) -> None:
    assert await notifications.secret_value(stage.house, stage.default.id, "HOOK") is None
    new = secrets.NewValue(project_id=stage.default.id, name="HOOK", value=b"first value")
    await secrets.put(stage.house, stage.caller, new)
    await secrets.put(stage.house, stage.caller, replace(new, value=b"second value"))
    assert await notifications.secret_value(stage.house, stage.default.id, "HOOK") == b"second value"


async def test_the_headline_is_for_people(stage: Stage) -> None:
    made = await run(stage, await task(stage, CHANNEL))
    (told,) = await due(stage)
    assert headline(told.payload) == ("told: run.created", f"Run {made.id} queued")


async def test_a_schedule_that_pauses_itself_is_told(stage: Stage) -> None:
    told_of = NotificationSettings(events=(NotificationEvent.SCHEDULE_PAUSED,), secret_ref="CHANNEL")
    spec, draft = replace(SPEC, queue_timeout_s=1.0), replace(MINUTELY, task="told", pause_after_failures=1)
    new = tasks.NewTask(project_id=stage.default.id, name="told", spec=spec, notifications=(told_of,))
    await stage.keep("CHANNEL")
    await tasks.create(stage.house, stage.caller, new)
    schedule = await schedules.create(stage.house, stage.caller, stage.default.id, draft)
    assert await fire_due(stage, schedule) is not None
    assert await listed(stage) == ()
    with stage.house.watch.subscribe(notifications.TOPIC) as wakeups:
        stage.clock.advance(2)
        await clocks.tick(stage.house)
        assert await wakeups.wait(0)
    (told,) = await due(stage)
    assert (told.event, told.schedule_id) == (NotificationEvent.SCHEDULE_PAUSED, schedule.id)
    assert headline(told.payload)[0] == "Schedule minutely of told is paused"
    assert "Its last run did not succeed" in told.payload
