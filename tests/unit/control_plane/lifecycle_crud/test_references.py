"""Secrets that definitions refer to: they are there when a definition is stored, and do not go unnoticed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from control_plane.domain.errors import ErrorCode, FailedPrecondition, NotFound
from control_plane.domain.ids import PrincipalId
from control_plane.domain.principal import Caller, Principal, PrincipalKind
from control_plane.domain.run_rules import not_over
from control_plane.domain.spec import EnvVar
from control_plane.domain.task import NotificationEvent, NotificationSettings
from control_plane.domain.variables import Variable
from control_plane.lifecycle import secrets, tasks, templates
from tests.unit.control_plane.lifecycle_crud.conftest import SPEC, Stage

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
