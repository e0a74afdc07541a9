"""The same request id gives the same resource, at once and after a restart; another body is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from control_plane.domain.errors import AlreadyExists, ErrorCode, InvalidArgument
from control_plane.domain.principal import PrincipalKind
from control_plane.domain.spec import Command, EnvVar, RunSpec, Step
from control_plane.lifecycle import principals, projects, tasks
from control_plane.lifecycle.principals import NewPrincipal
from control_plane.lifecycle.projects import NewProject
from control_plane.lifecycle.requests import digest_of
from control_plane.lifecycle.tasks import NewTask
from control_plane.storage.database import Database
from tests.unit.control_plane.lifecycle_crud.conftest import SPEC, Stage


async def test_a_repeat_gives_the_first_answer(stage: Stage) -> None:
    new = NewProject(name="web")
    first = await projects.create(stage.house, stage.asking("r1"), new)
    assert await projects.create(stage.house, stage.asking("r1"), new) == first
    with pytest.raises(AlreadyExists) as caught:
        await projects.create(stage.house, stage.asking("r1"), NewProject(name="web", description="other"))
    assert caught.value.code is ErrorCode.REQUEST_ID_REUSED


async def test_fifty_at_once_make_one(stage: Stage) -> None:
    new = NewTask(project_id=stage.default.id, name="build", spec=SPEC)
    made = await asyncio.gather(*(tasks.create(stage.house, stage.asking("r1"), new) for _ in range(50)))
    assert len({task.id for task in made}) == 1


async def test_it_is_remembered_after_a_restart(stage: Stage) -> None:
    new = NewTask(project_id=stage.default.id, name="build", spec=SPEC)
    first = await tasks.create(stage.house, stage.asking("r1"), new)
    await stage.house.database.close()
    stage.house.database = Database.open(stage.house.database.path.parent, stage.clock)
    assert await tasks.create(stage.house, stage.asking("r1"), new) == first
    await stage.house.database.close()


async def test_ids_belong_to_a_caller_and_a_method(stage: Stage) -> None:
    await projects.create(stage.house, stage.asking("r1"), NewProject(name="web"))
    other = replace(stage.caller.principal, id="someone")  # type: ignore[arg-type]
    someone = replace(stage.asking("r1"), principal=other)
    await projects.create(stage.house, someone, NewProject(name="app"))
    new = NewPrincipal(kind=PrincipalKind.SERVICE, name="ci")
    await principals.create(stage.house, stage.asking("r1"), new)


async def test_it_is_forgotten_after_a_day(stage: Stage) -> None:
    await projects.create(stage.house, stage.asking("r1"), NewProject(name="web"))
    stage.clock.advance(86_400)
    assert (await projects.create(stage.house, stage.asking("r1"), NewProject(name="web"))).name == "web"
    stage.clock.advance(1)
    assert (await projects.create(stage.house, stage.asking("r1"), NewProject(name="app"))).name == "app"


async def test_a_refused_request_is_not_remembered(stage: Stage) -> None:
    await projects.create(stage.house, stage.caller, NewProject(name="web"))
    with pytest.raises(AlreadyExists):
        await projects.create(stage.house, stage.asking("r1"), NewProject(name="web"))
    made = await projects.create(stage.house, stage.asking("r1"), NewProject(name="app"))
    assert made.name == "app"


async def test_what_was_deleted_is_not_made_again(stage: Stage) -> None:
    made = await projects.create(stage.house, stage.asking("r1"), NewProject(name="web"))
    await projects.delete(stage.house, made.id)
    with pytest.raises(AlreadyExists) as caught:
        await projects.create(stage.house, stage.asking("r1"), NewProject(name="web"))
    assert "deleted" in caught.value.message


async def test_a_bad_request_id_is_named(stage: Stage) -> None:
    for request_id in ("x" * 129, "a\nb"):
        with pytest.raises(InvalidArgument) as caught:
            await projects.create(stage.house, stage.asking(request_id), NewProject(name=""))
        assert [violation.field for violation in caught.value.violations] == ["project.name", "request_id"]
    await projects.create(stage.house, stage.asking("x" * 128), NewProject(name="ok"))


def test_equal_requests_have_equal_digests() -> None:
    step = Step(command=Command(argv=("a",), stdin=b"\0"), env=(EnvVar(name="A", value=""),))
    spec = RunSpec(steps=(step,), timeout_s=1.5)
    assert digest_of(spec) == digest_of(replace(spec, timeout_s=1.5))
    others = [
        replace(spec, timeout_s=None),
        replace(spec, steps=(replace(step, command=Command(argv=("a",), stdin=b"")),)),
        replace(spec, steps=(replace(step, env=(EnvVar(name="A", secret_ref=""),)),)),
    ]
    assert len({digest_of(each) for each in (spec, *others)}) == 4
    assert digest_of({"b": 1, "a": 2}) == digest_of({"a": 2, "b": 1})
    assert digest_of(("1",)) != digest_of((1,))
    assert digest_of(datetime(2030, 1, 1, tzinfo=UTC)) != digest_of("2030-01-01T00:00:00+00:00")
    with pytest.raises(TypeError):
        digest_of(object())
