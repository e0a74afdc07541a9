"""Projects and tasks: every offending field is named at once, nothing is stored that is not valid."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from control_plane.domain.errors import (
    Aborted,
    AlreadyExists,
    ErrorCode,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from control_plane.domain.ids import ProjectId, TaskId
from control_plane.domain.reason import Reason
from control_plane.domain.run import RunState
from control_plane.domain.schedule import FiringOrigin, ScheduleDraft
from control_plane.domain.spec import Command, RunSpec, Step
from control_plane.lifecycle import projects, runs, schedules, secrets, tasks
from control_plane.lifecycle.projects import NewProject, ProjectChange
from control_plane.lifecycle.runs import NewRun
from control_plane.lifecycle.secrets import NewValue
from control_plane.lifecycle.tasks import NewTask, TaskChange
from control_plane.storage import reads
from tests.unit.control_plane.lifecycle_crud.conftest import SPEC, Stage

BAD_NAMES = [
    "",
    "x" * 256,
    "a/b",
    "tab\there",
    "line\nbreak",
    "01900000-0000-7000-8000-0000000000aa",
    "e\u0301",
    " padded",
    "@last",
]


async def build_task(stage: Stage, name: str = "build", **more: object) -> tasks.Task:
    return await tasks.create(
        stage.house,
        stage.caller,
        NewTask(project_id=stage.default.id, name=name, spec=SPEC, **more),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_bad_names_are_refused_everywhere(stage: Stage, name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await projects.create(stage.house, stage.caller, NewProject(name=name))
    assert [violation.field for violation in caught.value.violations] == ["project.name"]
    with pytest.raises(InvalidArgument) as caught:
        await build_task(stage, name)
    assert [violation.field for violation in caught.value.violations] == ["task.name"]
    task = await build_task(stage)
    with pytest.raises(InvalidArgument):
        await tasks.update(stage.house, task.id, TaskChange(name=name))
    draft = ScheduleDraft(name=name, task="build", cron="* * * * *")
    with pytest.raises(InvalidArgument) as caught:
        await schedules.create(stage.house, stage.caller, stage.default.id, draft)
    assert [violation.field for violation in caught.value.violations] == ["schedule.name"]


@pytest.mark.parametrize("name", ["x", "x" * 255, "Übersicht 2030 – größer", "a b", "日本", "-"])
async def test_good_names_are_kept_to_the_letter(stage: Stage, name: str) -> None:
    assert (await build_task(stage, name)).name == name
    assert (await projects.create(stage.house, stage.caller, NewProject(name=name))).name == name


async def test_all_offending_fields_are_named_and_nothing_is_stored(stage: Stage) -> None:
    new = NewTask(
        project_id=stage.default.id,
        name="a/b",
        description="x" * (64 * 1024 + 1),
        spec=RunSpec(steps=(Step(command=Command(argv=("a\0b",))),), timeout_s=-1),
        labels={"bad key!": "v", "ok": "bad value!"},
        tags=("", *["t"] * 32),
    )
    with pytest.raises(InvalidArgument) as caught:
        await tasks.create(stage.house, stage.caller, new)
    fields = {violation.field for violation in caught.value.violations}
    expected = {"task.name", "task.description", "task.labels", "task.labels[ok]", "task.tags", "task.tags[0]"}
    assert expected <= fields
    assert any(field.startswith("task.spec.timeout") for field in fields)
    assert any(field.startswith("task.spec.steps[0].command.argv") for field in fields)
    page = await stage.house.database.read(
        partial(reads.list_tasks, project_id=stage.default.id, request=reads.PageRequest())
    )
    assert page.items == ()


@pytest.mark.parametrize(("count", "fits"), [(32, True), (33, False)])
async def test_limits_of_tags_and_labels(stage: Stage, count: int, fits: bool) -> None:
    labels = {f"k{number}": "v" for number in range(count)}
    tags = tuple(f"t{number}" for number in range(count))
    if fits:
        task = await build_task(stage, labels=labels, tags=tags)
        assert (task.labels, task.tags) == (labels, tags)
    else:
        for more in ({"labels": labels}, {"tags": tags}):
            with pytest.raises(InvalidArgument):
                await build_task(stage, **more)


async def test_a_name_is_taken_once_in_a_project(stage: Stage) -> None:
    await build_task(stage)
    with pytest.raises(AlreadyExists) as caught:
        await build_task(stage)
    assert caught.value.code is ErrorCode.NAME_TAKEN
    other = await projects.create(stage.house, stage.caller, NewProject(name="other"))
    await tasks.create(stage.house, stage.caller, NewTask(project_id=other.id, name="build", spec=SPEC))
    second = await build_task(stage, "second")
    with pytest.raises(AlreadyExists):
        await tasks.update(stage.house, second.id, TaskChange(name="build"))


async def test_an_update_changes_what_it_names_under_its_etag(stage: Stage) -> None:
    task = await build_task(stage, description="old", labels={"a": "1"})
    stage.clock.advance(5)
    changed = await tasks.update(stage.house, task.id, TaskChange(description="new", etag=task.etag))
    assert changed == replace(task, description="new", etag=changed.etag, updated_at=stage.clock.now())
    with pytest.raises(Aborted) as caught:
        await tasks.update(stage.house, task.id, TaskChange(description="newer", etag=task.etag))
    assert caught.value.code is ErrorCode.ETAG_MISMATCH
    spec = RunSpec(steps=(Step(command=Command(argv=("false",))),))
    everything = TaskChange(name="n", spec=spec, description="", labels={}, tags=("t",), active=False)
    final = await tasks.update(stage.house, task.id, everything)
    assert (final.name, final.description, final.labels, final.tags, final.active) == ("n", "", {}, ("t",), False)
    stored = await stage.house.database.read(partial(reads.spec_bytes, sha256=final.spec_sha256))
    assert stored is not None
    assert stage.house.codec.decode(stored) == spec


async def test_deleting_a_task_cancels_what_waits_and_keeps_history(stage: Stage) -> None:
    task = await build_task(stage)
    other = await build_task(stage, "other")
    draft = ScheduleDraft(name="nightly", task="build", cron="0 3 * * *")
    schedule = await schedules.create(stage.house, stage.caller, stage.default.id, draft)
    made = [
        await runs.create(stage.house, stage.caller, NewRun(project_id=stage.default.id, task_id=task.id))
        for _ in range(tasks.RUNS_A_VERB + 3)
    ]
    kept = await runs.create(stage.house, stage.caller, NewRun(project_id=stage.default.id, task_id=other.id))
    with pytest.raises(Aborted):
        await tasks.delete(stage.house, stage.caller, task.id, etag="7")
    await tasks.delete(stage.house, stage.caller, task.id, etag=task.etag)
    for run in made:
        found = await stage.house.database.read(partial(reads.run, run_id=run.id))
        assert found is not None
        assert (found.state, found.reason, found.task_name) == (RunState.CANCELLED, Reason.TASK_DELETED, "build")
        assert found.cancelled_by == "ada"
    found = await stage.house.database.read(partial(reads.run, run_id=kept.id))
    assert found is not None
    assert found.state is RunState.QUEUED
    find = partial(reads.find_schedule, project_id=stage.default.id, id_or_name="nightly")
    assert await stage.house.database.read(find) is None
    stopped = await stage.house.database.read(partial(reads.schedule, schedule_id=schedule.id))
    assert stopped is not None
    assert (stopped.paused, stopped.next_fire_at) == (True, None)
    for verb in (tasks.update(stage.house, task.id, TaskChange()), tasks.delete(stage.house, stage.caller, task.id)):
        with pytest.raises(NotFound):
            await verb
    assert (await build_task(stage)).id != task.id


async def test_unknown_things_are_not_found(stage: Stage) -> None:
    nowhere = ProjectId(stage.clock.new_id())
    for verb in (
        projects.update(stage.house, nowhere, ProjectChange(name="x")),
        projects.delete(stage.house, nowhere),
        tasks.update(stage.house, TaskId("x"), TaskChange()),
        schedules.create(
            stage.house, stage.caller, stage.default.id, ScheduleDraft(name="s", task="none", cron="* * * * *")
        ),
    ):
        with pytest.raises(NotFound):
            await verb


async def test_a_project_goes_only_when_it_is_empty(stage: Stage) -> None:
    project = await projects.create(stage.house, stage.caller, NewProject(name="web"))
    await secrets.put(stage.house, stage.caller, NewValue(project_id=project.id, name="TOKEN", value=b"x" * 8))
    task = await tasks.create(stage.house, stage.caller, NewTask(project_id=project.id, name="build", spec=SPEC))
    with pytest.raises(FailedPrecondition) as caught:
        await projects.delete(stage.house, project.id)
    assert caught.value.code is ErrorCode.PROJECT_NOT_EMPTY
    assert caught.value.metadata == {"holds": "tasks,secrets"}
    assert task.project_id == project.id
    empty = await projects.create(stage.house, stage.caller, NewProject(name="empty"))
    with pytest.raises(Aborted):
        await projects.delete(stage.house, empty.id, etag="9")
    await projects.delete(stage.house, empty.id, etag=empty.etag)
    assert await stage.house.database.read(partial(reads.find_project, id_or_name="empty")) is None


async def test_what_nobody_sees_any_more_does_not_hold_a_project(stage: Stage) -> None:
    project = await projects.create(stage.house, stage.caller, NewProject(name="web"))
    task = await tasks.create(stage.house, stage.caller, NewTask(project_id=project.id, name="build", spec=SPEC))
    draft = ScheduleDraft(name="nightly", task="build", cron="0 3 * * *")
    schedule = await schedules.create(stage.house, stage.caller, project.id, draft)
    assert schedule.next_fire_at is not None
    stage.clock.advance(3 * 86_400)
    # Only missed instants: they leave rows and no run.
    assert await schedules.fire(stage.house, schedule.id, schedule.next_fire_at, FiringOrigin.SCHEDULE) is None
    with pytest.raises(FailedPrecondition):
        await projects.delete(stage.house, project.id)
    await tasks.delete(stage.house, stage.caller, task.id)
    await projects.delete(stage.house, project.id)
    assert await stage.house.database.read(partial(reads.project, project_id=project.id)) is None


async def test_the_default_project_stays(stage: Stage) -> None:
    assert await projects.ensure_default(stage.house) == stage.default
    with pytest.raises(InvalidArgument):
        await projects.delete(stage.house, stage.default.id)
    with pytest.raises(InvalidArgument):
        await projects.update(stage.house, stage.default.id, ProjectChange(name="other"))
    described = await projects.update(stage.house, stage.default.id, ProjectChange(description="d"))
    assert (described.name, described.description) == ("default", "d")


async def test_a_project_is_renamed_under_its_etag(stage: Stage) -> None:
    project = await projects.create(stage.house, stage.caller, NewProject(name="web"))
    renamed = await projects.update(stage.house, project.id, ProjectChange(name="app", etag=project.etag))
    assert renamed.name == "app"
    with pytest.raises(Aborted):
        await projects.update(stage.house, project.id, ProjectChange(name="lib", etag=project.etag))
    with pytest.raises(AlreadyExists):
        await projects.update(stage.house, project.id, ProjectChange(name="default"))
