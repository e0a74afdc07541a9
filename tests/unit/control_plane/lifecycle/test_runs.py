"""Creating, cancelling and retrying runs: what is checked, what is stored once, what is answered again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.domain import limits
from control_plane.domain.errors import BanksmanError
from control_plane.domain.ids import Holder, ProjectId, RunId, TaskId
from control_plane.domain.principal import PrincipalKind
from control_plane.domain.reason import Reason
from control_plane.domain.run import RunState, TriggerType
from control_plane.domain.session import ExitOutcome, HeldPhase, Stop, Withdraw
from control_plane.domain.spec import Command, EnvVar, RetryPolicy, RunSpec, Step
from control_plane.domain.stops import CancelOrder
from control_plane.domain.task import Task
from control_plane.lifecycle import births, runs, secrets, tasks
from control_plane.storage.database import Connection
from tests.fakes.cases import exit_record, spec
from tests.fakes.world import World

BADLY = exit_record(ExitOutcome.ENDED_BADLY)


def code(error: pytest.ExceptionInfo[BanksmanError]) -> str:
    return str(error.value.code)


async def test_a_run_freezes_its_tasks_spec(world: World) -> None:
    task = await world.task(RunSpec(steps=(Step(command=Command(argv=("make",))),)))
    run = await world.run_task(task)
    changed = tasks.TaskChange(spec=RunSpec(steps=(Step(command=Command(argv=("ninja",))),)))
    await tasks.update(world.house, task.id, changed)
    frozen = await world.house.database.read(lambda conn: world.house.spec(conn, run.spec_sha256))
    assert frozen.steps[0].command.argv == ("make",)
    assert (frozen.slots, frozen.grace_s, frozen.stop_signal) == (1, 10.0, "SIGTERM")
    assert (run.task_id, run.task_name, run.trigger_type) == (task.id, "build", TriggerType.MANUAL)
    again = await world.run_task(task)
    assert again.spec_sha256 != run.spec_sha256


async def test_equal_specs_are_stored_once(world: World) -> None:
    first, second = await world.submit(), await world.submit()
    assert first.id != second.id
    assert first.spec_sha256 == second.spec_sha256


async def test_options_are_kept_and_priority_wins_over_the_specs(world: World) -> None:
    of = replace(spec(), priority=3)
    labels, metadata = {"team": "core"}, {"from": "ci"}
    run = await world.submit(of, title="nightly", labels=labels, trigger_metadata=metadata)
    stored = await world.stored(run.id)
    assert (stored.priority, stored.options.title) == (3, "nightly")
    assert (dict(stored.options.labels), dict(stored.options.trigger_metadata)) == (labels, metadata)
    assert (await world.submit(of, priority=-7)).priority == -7


async def test_the_servers_word_on_the_trigger(world: World) -> None:
    new = runs.NewRun(project_id=world.project_id, spec=spec())
    service = world.caller(kind=PrincipalKind.SERVICE)
    assert (await runs.create(world.house, service, new)).trigger_type is TriggerType.API


async def test_the_same_request_gives_the_same_run_for_a_day(world: World) -> None:
    first = await world.submit(request_id="req-1")
    assert (await world.submit(request_id="req-1")).id == first.id
    assert (await world.submit(request_id="req-2")).id != first.id
    await world.restart()
    assert (await world.submit(request_id="req-1")).id == first.id
    world.clock.advance(limits.REQUEST_ID_KEPT_S + 1.0)
    assert (await world.submit(request_id="req-1")).id != first.id


async def test_the_same_request_at_the_same_moment_makes_one_run(world: World) -> None:
    async with asyncio.TaskGroup() as group:
        made = [group.create_task(world.submit(request_id="once")) for _ in range(20)]
    assert len({task.result().id for task in made}) == 1


async def test_another_request_under_the_same_id_is_refused(world: World) -> None:
    await world.submit(request_id="req-1")
    for other in (spec(max_attempts=2), None):
        with pytest.raises(BanksmanError) as error:
            await world.submit(other, request_id="req-1", title="" if other else "another")
        assert code(error) == "REQUEST_ID_REUSED"


async def test_a_refused_request_is_not_remembered(world: World) -> None:
    with pytest.raises(BanksmanError):
        await world.submit(replace(spec(), runner="nobody"), request_id="req-1")
    assert (await world.submit(request_id="req-1")).state is RunState.QUEUED


async def test_every_offending_field_is_named_and_nothing_is_stored(world: World) -> None:
    bad = RunSpec(
        steps=(Step(command=Command(argv=("a\0b",), script="echo"), timeout_s=0.5),),
        env=(EnvVar(name="1X", value="v"),),
        slots=-1,
        retry=RetryPolicy(max_attempts=101),
    )
    before = await world.writes_done()
    with pytest.raises(BanksmanError) as error:
        await world.submit(bad, priority=101, deadline=world.clock.now() - timedelta(seconds=1))
    assert {violation.field for violation in error.value.violations} == {
        "options.priority",
        "options.deadline",
        "spec.steps[0].command",
        "spec.steps[0].command.argv[0]",
        "spec.steps[0].timeout",
        "spec.env[0].name",
        "spec.slots",
        "spec.retry.max_attempts",
    }
    assert await world.writes_done() == before


async def test_what_a_spec_names_must_exist(world: World) -> None:
    of = replace(spec(), env=(EnvVar(name="A", value="x"), EnvVar(name="T", secret_ref="TOKEN")))
    with pytest.raises(BanksmanError) as error:
        await world.submit(of)
    assert code(error) == "SECRET_UNKNOWN"
    assert [violation.field for violation in error.value.violations] == ["spec.env[1].secret_ref"]
    assert error.value.hint == "banksman secret set TOKEN"
    value = secrets.NewValue(project_id=world.project_id, name="TOKEN", value=b"long enough")
    await secrets.put(world.house, world.caller(), value)
    assert (await world.submit(of)).state is RunState.QUEUED
    with pytest.raises(BanksmanError) as error:
        await world.submit(replace(spec(), runner="r9"))
    assert code(error) == "RUNNER_NOT_FOUND"
    holder = await world.runner("r9")
    for name in ("r9", holder.runner_id):
        assert (await world.submit(replace(spec(), runner=name))).state is RunState.QUEUED


async def test_tasks_that_cannot_be_run(world: World) -> None:
    task = await world.task(active=False)
    with pytest.raises(BanksmanError) as error:
        await world.run_task(task)
    assert code(error) == "TASK_INACTIVE"
    unknown = replace(task, id=TaskId(world.clock.new_id()))
    for gone in (unknown, await deleted(world)):
        with pytest.raises(BanksmanError) as error:
            await world.run_task(gone)
        assert code(error) == "TASK_NOT_FOUND"


async def deleted(world: World) -> Task:
    task = await world.task(name="gone")
    await tasks.delete(world.house, world.caller(), task.id, "")
    return task


async def test_a_project_that_is_not_the_callers(world: World, holder: Holder) -> None:
    run = await world.submit()
    stranger = world.caller(admin=False, project_ids=(ProjectId("another"),))
    new = runs.NewRun(project_id=world.project_id, spec=spec())
    with pytest.raises(BanksmanError) as error:
        await runs.create(world.house, stranger, new)
    assert code(error) == "PROJECT_FORBIDDEN"
    for verb in (
        runs.cancel(world.house, stranger, run.id, CancelOrder()),
        runs.retry(world.house, stranger, run.id),
    ):
        with pytest.raises(BanksmanError) as error:
            await verb
        assert code(error) == "PROJECT_FORBIDDEN"
    assert (await world.stored(run.id)).state is RunState.QUEUED


async def test_a_cancelled_run_never_starts(world: World, holder: Holder) -> None:
    run = await world.submit()
    order = CancelOrder(note="no more")
    cancelled = await runs.cancel(world.house, world.caller(), run.id, order)
    assert (cancelled.state, cancelled.cancelled_by, cancelled.cancel_note) == ("CANCELLED", "ann", "no more")
    assert cancelled.settled_at is not None
    assert await world.place(holder) == {}
    assert world.posted == []
    await world.restart()
    assert await world.place(holder) == {}
    assert (await world.stored(run.id)) == cancelled


async def test_a_cancel_of_an_offer_and_of_a_running_attempt(world: World, holder: Holder) -> None:
    offered = await world.submit()
    key = await world.offered(offered, holder)
    assert (await runs.cancel(world.house, world.caller(), offered.id, CancelOrder())).state is RunState.CANCELLED
    assert world.last() == Withdraw(key=key)
    running = await world.submit()
    key = await world.running(running, holder)
    first = await runs.cancel(world.house, world.caller(), running.id, CancelOrder(signal="SIGINT", grace_s=1.0))
    assert first.state is RunState.CANCELLING
    assert world.last() == Stop(key=key, reason=Reason.USER_CANCEL, signal="SIGINT", grace_s=1.0)
    bob = world.caller(name="bob")
    assert (await runs.cancel(world.house, bob, running.id, CancelOrder())) == first
    await world.exited(key, holder, exit_record())
    ended = await runs.cancel(world.house, bob, running.id, CancelOrder())
    assert (ended.state, ended.cancelled_by, ended.exit_code) == ("CANCELLED", "ann", 0)


async def test_a_cancel_survives_a_crash_and_is_said_again(world: World, holder: Holder) -> None:
    key = await world.running(await world.submit(), holder)
    await runs.cancel(world.house, world.caller(), key.run_id, CancelOrder())
    await world.restart()
    await world.tick(5.0)
    assert isinstance(world.last(), Stop)


async def test_force_frees_at_once_and_fences_what_still_runs(world: World, holder: Holder) -> None:
    run = await world.submit()
    key = await world.running(run, holder)
    forced = await runs.cancel(world.house, world.caller(), run.id, CancelOrder(), force=True)
    assert (forced.state, forced.reason, forced.lease_epoch) == ("CANCELLED", Reason.FORCED, key.lease_epoch + 1)
    assert not forced.kill_confirmed
    assert (await world.beat(holder, key, HeldPhase.RUNNING)).kind == "FENCED"
    await world.exited(key, holder, exit_record(ExitOutcome.ENDED_BADLY, exit_code=None, signal=9))
    late = await world.stored(run.id)
    assert (late.state, late.kill_confirmed, late.signal) == ("CANCELLED", True, 9)
    await world.sealed(key)
    assert (await world.stored(run.id)).settled_at is not None


async def test_a_finished_run_cannot_be_cancelled(world: World, holder: Holder) -> None:
    key = await world.running(await world.submit(), holder)
    await world.exited(key, holder, BADLY)
    for force in (False, True):
        with pytest.raises(BanksmanError) as error:
            await runs.cancel(world.house, world.caller(), key.run_id, CancelOrder(), force=force)
        assert code(error) == "RUN_FINISHED"
        assert error.value.metadata == {"state": "FAILED"}


async def test_unknown_runs_and_bad_cancels(world: World) -> None:
    unknown = RunId(world.clock.new_id())
    for verb in (
        runs.cancel(world.house, world.caller(), unknown, CancelOrder()),
        runs.retry(world.house, world.caller(), unknown),
    ):
        with pytest.raises(BanksmanError) as error:
            await verb
        assert code(error) == "RUN_NOT_FOUND"
    bad = CancelOrder(note="x" * (limits.CANCEL_NOTE_BYTES + 1), grace_s=3_601.0, signal="SIGWINCH")
    with pytest.raises(BanksmanError) as error:
        await runs.cancel(world.house, world.caller(), unknown, bad)
    assert [violation.field for violation in error.value.violations] == ["note", "grace", "signal"]


async def test_a_retry_by_hand_is_a_new_run_of_the_frozen_spec(world: World, holder: Holder) -> None:
    task = await world.task()
    old = await world.run_task(task)
    with pytest.raises(BanksmanError) as error:
        await runs.retry(world.house, world.caller(), old.id)
    assert code(error) == "RUN_ACTIVE"
    key = await world.running(old, holder)
    await world.exited(key, holder, BADLY)
    await tasks.update(world.house, task.id, tasks.TaskChange(spec=spec(max_attempts=7)))
    await world.submit(request_id="again")
    first = await runs.retry(world.house, world.caller("again"), old.id)
    assert (first.retry_of, first.root_run_id, first.trigger_type) == (old.id, old.id, TriggerType.RETRY)
    assert first.spec_sha256 == old.spec_sha256
    assert (await runs.retry(world.house, world.caller("again"), old.id)).id == first.id
    await runs.cancel(world.house, world.caller(), first.id, CancelOrder())
    second = await runs.retry(world.house, world.caller(), first.id, use_newest_spec=True)
    assert (second.retry_of, second.root_run_id) == (first.id, old.id)
    newest = await world.house.database.read(lambda conn: world.house.spec(conn, second.spec_sha256))
    assert newest.retry.max_attempts == 7


async def test_deleting_a_task_ends_what_waits_and_what_would_wait_again(world: World, holder: Holder) -> None:
    task = await world.task(spec(max_attempts=5))
    running, offered, queued = [await world.run_task(task) for _ in range(3)]
    key = await world.running(running, holder)
    await world.offered(offered, holder)
    await tasks.delete(world.house, world.caller(), task.id, "")
    for run in (offered, queued):
        ended = await world.stored(run.id)
        assert (ended.state, ended.reason) == ("CANCELLED", Reason.TASK_DELETED)
    assert (await world.stored(running.id)).state is RunState.RUNNING
    await world.exited(key, holder, BADLY)
    ended = await world.stored(running.id)
    assert (ended.state, ended.reason) == ("CANCELLED", Reason.TASK_DELETED)
    with pytest.raises(BanksmanError) as error:
        await runs.retry(world.house, world.caller(), running.id, use_newest_spec=True)
    assert code(error) == "TASK_DELETED"
    assert (await runs.retry(world.house, world.caller(), running.id)).state is RunState.QUEUED


async def test_a_retry_waits_for_its_back_off_and_keeps_its_number(world: World, holder: Holder) -> None:
    of = replace(spec(max_attempts=2), retry=RetryPolicy(max_attempts=2, backoff_s=10.0))
    run = await world.submit(of)
    key = await world.running(run, holder)
    await world.exited(key, holder, BADLY)
    waiting = await world.stored(run.id)
    assert waiting.not_before is not None
    delay_s = (waiting.not_before - world.clock.now()).total_seconds()
    assert 5.0 < delay_s <= 10.0
    await world.place(holder)
    assert world.posted == []
    world.clock.advance(delay_s)
    await world.place(holder)
    second = world.offer().key
    assert (await world.attempt(second)).number == 2
    await world.accept(second, holder)
    await world.started(second, holder)
    await world.exited(second, holder, BADLY)
    assert (await world.stored(run.id)).state is RunState.FAILED


async def test_a_run_can_be_born_skipped(world: World) -> None:
    frozen = world.house.specs.freeze(spec())

    def body(conn: Connection) -> RunId:
        birth = births.Birth(
            project_id=world.project_id,
            frozen=frozen,
            trigger_type=TriggerType.SCHEDULED,
            created_by=world.ann.id,
            skip=Reason.OVERLAP,
        )
        return births.born(world.house, conn, birth).run.id

    run_id = await world.house.database.write(body)
    skipped = await world.stored(run_id)
    assert (skipped.state, skipped.reason, skipped.is_active) == ("SKIPPED", Reason.OVERLAP, False)
    assert skipped.settled_at is not None
    assert await world.kinds(run_id) == ["CREATED", "SKIPPED", "SETTLED"]


async def test_watchers_are_woken_after_the_commit(world: World, holder: Holder) -> None:
    with world.house.watch.subscribe("queue", "runs") as wakeups:
        run = await world.submit()
        assert await wakeups.wait(0.0)
        assert not await wakeups.wait(0.0)
    with world.house.watch.subscribe(f"run:{run.id}") as wakeups:
        await world.running(run, holder)
        assert await wakeups.wait(0.0)
