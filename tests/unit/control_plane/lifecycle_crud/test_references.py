"""Secrets that definitions refer to: they are there when a definition is stored, and do not go unnoticed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from control_plane.domain.errors import (
    Aborted,
    AlreadyExists,
    ErrorCode,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from control_plane.domain.ids import PrincipalId
from control_plane.domain.principal import Caller, Principal, PrincipalKind
from control_plane.domain.run import RunState
from control_plane.domain.run_rules import not_over
from control_plane.domain.spec import EnvVar
from control_plane.domain.task import NotificationEvent, NotificationSettings
from control_plane.domain.variables import Variable, VariableValue
from control_plane.lifecycle import schedules, secrets, tasks, templates
from tests.unit.control_plane.lifecycle_crud.conftest import SPEC, Stage
from tests.unit.control_plane.lifecycle_crud.test_schedules import MINUTELY, fire_due

USES: dict[str, dict[str, Any]] = {
    "spec": {"spec": replace(SPEC, env=(EnvVar(name="K", secret_ref="KEY"),))},
    "variables": {"spec": SPEC, "variables": (Variable(name="k", secret_ref="KEY"),)},
    "notifications": {
        "spec": SPEC,
        "notifications": (NotificationSettings(events=(NotificationEvent.LOST,), secret_ref="KEY"),),
    },
}


async def put(stage: Stage, *names: str) -> None:
    for name in names:
        value = secrets.NewValue(project_id=stage.default.id, name=name, value=b"long enough")
        await secrets.put(stage.house, stage.caller, value)


async def remove(stage: Stage, name: str = "KEY", *, caller: Caller | None = None, force: bool = False) -> None:
    await secrets.delete(stage.house, caller or stage.caller, stage.default.id, name, force=force)


def member(stage: Stage) -> Caller:
    bob = Principal(
        id=PrincipalId(stage.clock.new_id()),
        kind=PrincipalKind.USER,
        name="bob",
        admin=False,
        project_ids=(stage.default.id,),
        created_at=stage.clock.now(),
    )
    return Caller(principal=bob)


@pytest.mark.parametrize("where", USES)
async def test_a_secret_in_use_is_deleted_only_by_force(stage: Stage, where: str) -> None:
    await put(stage, "KEY", "KEY_2", "OTHER")
    project = stage.default.id
    task = await tasks.create(stage.house, stage.caller, tasks.NewTask(project_id=project, name="t", **USES[where]))
    new = templates.NewTemplate(project_id=project, name="m", **USES[where])
    template = await templates.create(stage.house, stage.caller, new)
    with pytest.raises(FailedPrecondition) as caught:
        await remove(stage)
    assert (caught.value.code, caught.value.metadata["users"]) == (ErrorCode.SECRET_IN_USE, "2")
    assert "in use by task t, template m." in caught.value.message
    await remove(stage, "OTHER")
    await remove(stage, "KEY_2")
    await tasks.delete(stage.house, stage.caller, task.id)
    with pytest.raises(FailedPrecondition, match="in use by template m\\."):
        await remove(stage)
    await templates.delete(stage.house, template.id)
    await remove(stage)
    with pytest.raises(NotFound):
        await remove(stage)


async def test_force_deletes_a_secret_in_use(stage: Stage) -> None:
    await put(stage, "KEY")
    new = tasks.NewTask(project_id=stage.default.id, name="t", **USES["spec"])
    await tasks.create(stage.house, stage.caller, new)
    await remove(stage, force=True)
    with pytest.raises(NotFound):
        await remove(stage, force=True)


async def test_users_of_a_secret_that_the_caller_does_not_see_are_only_counted(stage: Stage) -> None:
    await put(stage, "KEY")
    for name, public in (("open", True), ("a", False), ("b", False)):
        new = tasks.NewTask(project_id=stage.default.id, name=name, is_public=public, **USES["spec"])
        await tasks.create(stage.house, stage.caller, new)
    with pytest.raises(FailedPrecondition, match="in use by task open, 2 more\\. Nothing was deleted"):
        await remove(stage, caller=member(stage))
    with pytest.raises(FailedPrecondition, match="in use by task a, task b, task open\\."):
        await remove(stage)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1, "Its run r0 is not over yet."),
        (2, "2 of its runs are not over yet: r0, r1."),
        (6, "6 of its runs are not over yet: such as r0, r1, r2, r3, r4."),
    ],
)
def test_runs_that_are_not_over_are_counted_in_a_sentence(count: int, text: str) -> None:
    assert not_over([f"r{number}" for number in range(count)]) == text  # type: ignore[misc]


async def test_all_that_is_wrong_is_named_with_the_secrets_and_nothing_is_stored(stage: Stage) -> None:
    told = NotificationSettings(events=(NotificationEvent.LOST,), secret_ref="GONE")
    wrong = {**USES["spec"], "variables": (Variable(name="k", secret_ref="ABSENT"),), "notifications": (told,)}
    new = tasks.NewTask(project_id=stage.default.id, name="t", **wrong)
    made = templates.NewTemplate(project_id=stage.default.id, name="t", **wrong)
    places = ["spec.env[0].secret_ref", "variables[0].secret_ref", "notifications[0].secret_ref"]
    for name, more in (("t", []), ("a/b", ["name"])):
        for what, path in ((new, "task"), (made, "template")):
            with pytest.raises(InvalidArgument) as caught:
                await create(stage, replace(what, name=name))
            assert [each.field for each in caught.value.violations] == [f"{path}.{each}" for each in (*more, *places)]
            assert caught.value.code is (ErrorCode.INVALID_FIELDS if more else ErrorCode.SECRET_UNKNOWN)
    await put(stage, "KEY", "GONE", "ABSENT")
    await create(stage, new)
    await create(stage, made)


async def create(stage: Stage, new: tasks.NewTask | templates.NewTemplate) -> None:
    if isinstance(new, tasks.NewTask):
        await tasks.create(stage.house, stage.caller, new)
    else:
        await templates.create(stage.house, stage.caller, new)


@pytest.mark.parametrize("where", USES)
async def test_an_update_is_held_to_the_secrets_of_what_it_changes(stage: Stage, where: str) -> None:
    await put(stage, "KEY")
    project = stage.default.id
    task = await tasks.create(stage.house, stage.caller, tasks.NewTask(project_id=project, name="t", **USES[where]))
    new = templates.NewTemplate(project_id=project, name="m", **USES[where])
    template = await templates.create(stage.house, stage.caller, new)
    await remove(stage, force=True)
    await tasks.update(stage.house, task.id, tasks.TaskChange(description="d"))
    await templates.update(stage.house, stage.caller, template.id, templates.TemplateChange(description="d"))
    change = {where: USES[where][where]}
    with pytest.raises(InvalidArgument) as caught:
        await tasks.update(stage.house, task.id, tasks.TaskChange(**change))
    assert caught.value.code is ErrorCode.SECRET_UNKNOWN
    with pytest.raises(InvalidArgument) as caught:
        await templates.update(stage.house, stage.caller, template.id, templates.TemplateChange(**change))
    assert caught.value.code is ErrorCode.SECRET_UNKNOWN


async def test_values_that_were_stored_before_a_task_changed_still_fire(stage: Stage) -> None:
    stage_of = Variable(name="stage")
    new = tasks.NewTask(project_id=stage.default.id, name="build", spec=SPEC, variables=(stage_of,))
    task = await tasks.create(stage.house, stage.caller, new)
    draft = replace(MINUTELY, variables={"stage": "live"})
    schedule = await schedules.create(stage.house, stage.caller, stage.default.id, draft)
    await tasks.update(stage.house, task.id, tasks.TaskChange(variables=()))
    fired = await fire_due(stage, schedule)
    assert fired is not None
    assert (fired.state, fired.variables) == (RunState.QUEUED, (VariableValue(name="stage", value="live"),))
    with pytest.raises(InvalidArgument) as caught:
        await schedules.create(stage.house, stage.caller, stage.default.id, replace(draft, name="another"))
    assert [each.field for each in caught.value.violations] == ["schedule.variables[stage]"]


async def test_what_is_only_validated_is_refused_alike_and_stored_never(stage: Stage) -> None:
    new = tasks.NewTask(project_id=stage.default.id, name="build", spec=SPEC)
    asking, draft = stage.asking("once"), replace(MINUTELY, task="build")
    assert (await tasks.create(stage.house, asking, new, validate_only=True)).name == "build"
    with pytest.raises(NotFound):
        await schedules.create(stage.house, stage.caller, stage.default.id, draft, validate_only=True)
    task = await tasks.create(stage.house, asking, new)
    assert task == await tasks.create(stage.house, asking, new, validate_only=True)
    with pytest.raises(AlreadyExists):
        await tasks.create(stage.house, stage.caller, new, validate_only=True)
    change = tasks.TaskChange(description="another", etag=task.etag)
    assert (await tasks.update(stage.house, task.id, change, validate_only=True)).description == "another"
    schedule = await schedules.create(stage.house, stage.caller, stage.default.id, draft, validate_only=True)
    with pytest.raises(NotFound):
        await schedules.pause(stage.house, schedule.id)
    made = templates.NewTemplate(project_id=stage.default.id, name="m", spec=SPEC)
    template = await templates.create(stage.house, stage.caller, made, validate_only=True)
    template = await templates.create(stage.house, stage.caller, made)
    edit = templates.TemplateChange(description="another", etag=template.etag)
    assert (await templates.update(stage.house, stage.caller, template.id, edit, validate_only=True)).version == 2
    # Nothing has moved: the etags that were read first are still those that are stored.
    assert (await tasks.update(stage.house, task.id, change)).description == "another"
    assert (await templates.update(stage.house, stage.caller, template.id, edit)).version == 2
    with pytest.raises(Aborted):
        await tasks.update(stage.house, task.id, change, validate_only=True)
