"""The whole task: what is stored, what is refused at the limit and one more, and how it goes and comes back."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from control_plane.domain import limits
from control_plane.domain.coding_agent import AgentMode, AgentType, CodingAgent
from control_plane.domain.errors import (
    Aborted,
    AlreadyExists,
    ErrorCode,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from control_plane.domain.run import RunOptions, RunState
from control_plane.domain.schedule import ScheduleDraft
from control_plane.domain.spec import Command, EnvVar, RunSpec, Step
from control_plane.domain.task import NotificationEvent, NotificationSettings, ReportFormat, ReportSettings, Task
from control_plane.domain.variables import UnknownVariables, Variable
from control_plane.lifecycle import housekeeping, runs, schedules, tasks
from control_plane.lifecycle.housekeeping import Keep
from control_plane.lifecycle.runs import NewRun
from control_plane.lifecycle.tasks import NewTask, TaskChange
from control_plane.storage import reads
from tests.unit.control_plane.lifecycle_crud.conftest import SPEC, Stage

AGENT = CodingAgent(
    prompt="Fix {{ issue }}",
    type=AgentType.CLAUDE_CODE,
    repository="https://example.org/app.git",
    base_branch="main",
    title="Fix it",
    context="c",
    docs_paths=("docs/a.md",),
    mode=AgentMode.BACKGROUND,
    allowed_tools=("Edit",),
    disallowed_tools=("Bash",),
    model="m",
    max_turns=50,
    permission_mode="acceptEdits",
    output_schema='{"type": "object"}',
    max_cost_usd=2.5,
    command=("claude", "-p"),
    options={"verbose": "true"},
)
HOOK = NotificationSettings(events=(NotificationEvent.FAILED,), webhook_url="https://example.org/hook")
FULL: dict[str, Any] = {
    "description": "d",
    "labels": {"team": "core"},
    "tags": ("t",),
    "active": False,
    "variables": (
        Variable(name="branch", default_value="main", description="which"),
        Variable(name="token", secret_ref="TOKEN"),
        Variable(name="who", required=True, sensitive=True),
    ),
    "unknown_variables": UnknownVariables.REFUSE,
    "allow_shell_substitution": True,
    "allowed_overrides": ("timeout", "env"),
    "is_public": True,
    "report": ReportSettings(enabled=True, formats=(ReportFormat.JSON, ReportFormat.PDF)),
    "notifications": (HOOK, NotificationSettings(events=(NotificationEvent.LOST,), secret_ref="APPRISE")),
}


async def make(stage: Stage, name: str = "build", spec: RunSpec = SPEC, **more: Any) -> Task:
    return await tasks.create(stage.house, stage.caller, new(stage, name, spec, **more))


def new(stage: Stage, name: str = "build", spec: RunSpec = SPEC, **more: Any) -> NewTask:
    return NewTask(project_id=stage.default.id, name=name, spec=spec, **more)


async def stored(stage: Stage, task: Task) -> Task | None:
    return await stage.house.database.read(partial(reads.task, task_id=task.id))


def fields(refused: pytest.ExceptionInfo[InvalidArgument]) -> list[str]:
    return [violation.field for violation in refused.value.violations]


async def test_every_field_is_stored_and_changed(stage: Stage) -> None:
    await stage.keep("APPRISE", "TOKEN")
    task = await make(stage, **FULL)
    assert await stored(stage, task) == task
    assert {name: getattr(task, name) for name in FULL} == FULL
    assert task.owner == stage.caller.principal.id
    for name, value in FULL.items():
        plain = await make(stage, f"change {name}")
        changed = await tasks.update(stage.house, plain.id, TaskChange(**{name: value}))
        assert await stored(stage, changed) == changed == replace(plain, **{name: value}, etag=changed.etag)


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("name of a variable", {"variables": (Variable(name="1a"),)}, "task.variables[0].name"),
    ("long name", {"variables": (Variable(name="a" * 65),)}, "task.variables[0].name"),
    ("twice", {"variables": (Variable(name="a"), Variable(name="A"))}, "task.variables[1].name"),
    ("too many", {"variables": tuple(Variable(name=f"v{i}") for i in range(65))}, "task.variables"),
    ("long", {"variables": (Variable(name="a", default_value="x" * 65_537),)}, "task.variables[0].default_value"),
    ("NUL", {"variables": (Variable(name="a", default_value="\0"),)}, "task.variables[0].default_value"),
    (
        "sensitive default",
        {"variables": (Variable(name="a", default_value="long enough", sensitive=True),)},
        "task.variables[0].default_value",
    ),
    ("two defaults", {"variables": (Variable(name="a", default_value="x", secret_ref="S"),)}, "task.variables[0]"),
    ("secret", {"variables": (Variable(name="a", secret_ref="a b"),)}, "task.variables[0].secret_ref"),
    ("override", {"allowed_overrides": ("timeout", "spec")}, "task.allowed_overrides[1]"),
    ("override twice", {"allowed_overrides": ("env", "env")}, "task.allowed_overrides[1]"),
    ("no format", {"report": ReportSettings(enabled=True)}, "task.report.formats"),
    (
        "format twice",
        {"report": ReportSettings(enabled=True, formats=(ReportFormat.PDF, ReportFormat.PDF))},
        "task.report.formats[1]",
    ),
    ("no event", {"notifications": (replace(HOOK, events=()),)}, "task.notifications[0].events"),
    ("event twice", {"notifications": (replace(HOOK, events=HOOK.events * 2),)}, "task.notifications[0].events[1]"),
    ("nowhere", {"notifications": (replace(HOOK, webhook_url=""),)}, "task.notifications[0]"),
    ("scheme", {"notifications": (replace(HOOK, webhook_url="ftp://x/y"),)}, "task.notifications[0].webhook_url"),
    ("no host", {"notifications": (replace(HOOK, webhook_url="https:///y"),)}, "task.notifications[0].webhook_url"),
    ("user", {"notifications": (replace(HOOK, webhook_url="http://u:p@h/"),)}, "task.notifications[0].webhook_url"),
    ("port", {"notifications": (replace(HOOK, webhook_url="http://h:x/"),)}, "task.notifications[0].webhook_url"),
    ("hooks", {"notifications": (HOOK,) * 17}, "task.notifications"),
]


@pytest.mark.parametrize(("what", "more", "field"), BAD, ids=[case[0] for case in BAD])
async def test_what_is_wrong_is_named_at_create_and_update(
    stage: Stage, what: str, more: dict[str, Any], field: str
) -> None:
    await stage.keep("S")
    with pytest.raises(InvalidArgument) as caught:
        await make(stage, **more)
    assert fields(caught) == [field], what
    task = await make(stage)
    with pytest.raises(InvalidArgument) as caught:
        await tasks.update(stage.house, task.id, TaskChange(**more))
    assert fields(caught) == [field], what
    assert await stored(stage, task) == task


async def test_limits_at_the_limit(stage: Stage) -> None:
    most = {
        "variables": tuple(Variable(name=f"v{i}".ljust(64, "x")) for i in range(limits.VARIABLES)),
        "notifications": (HOOK,) * limits.NOTIFICATIONS,
        "description": "x" * limits.DESCRIPTION_BYTES,
    }
    await make(stage, "n" * 255, **most)
    await make(stage, "long default", variables=(Variable(name="a", default_value="x" * limits.VARIABLE_BYTES),))


async def test_every_mistake_of_a_whole_task_is_in_one_answer(stage: Stage) -> None:
    spec = RunSpec(steps=(Step(command=Command(script="echo {{ a }}")),), timeout_s=0.5)
    bad = ScheduleDraft(name="n", cron="0 25 * * *")
    with pytest.raises(InvalidArgument) as caught:
        await make(stage, "a/b", spec, report=ReportSettings(enabled=True), tags=("",), schedules=(bad,))
    expected = {"task.name", "task.tags[0]", "task.report.formats", "task.spec.timeout"}
    assert set(fields(caught)) == expected | {"task.spec.steps[0].command.script", "task.schedules[0].cron"}
    assert "25" in next(v.description for v in caught.value.violations if v.field == "task.schedules[0].cron")
    page = await stage.house.database.read(
        partial(reads.list_tasks, project_id=stage.default.id, request=reads.PageRequest())
    )
    assert page.items == ()


async def test_an_update_looks_again_at_what_depends_on_it(stage: Stage) -> None:
    """A shell's program with a placeholder: allowed, then not any more; and a default that makes an argument long."""
    shell = RunSpec(steps=(Step(command=Command(argv=("sh", "-c", "echo {{ a }}"))),))
    task = await make(stage, spec=shell, allow_shell_substitution=True)
    with pytest.raises(InvalidArgument) as caught:
        await tasks.update(stage.house, task.id, TaskChange(allow_shell_substitution=False))
    assert fields(caught) == ["task.spec.steps[0].command.argv[2]"]
    twice = RunSpec(steps=(Step(command=Command(argv=("echo", "{{ a }}{{ a }}"))),))
    task = await tasks.update(stage.house, task.id, TaskChange(spec=twice))
    long = (Variable(name="a", default_value="x" * 65_536),)
    with pytest.raises(InvalidArgument) as caught:
        await tasks.update(stage.house, task.id, TaskChange(variables=long))
    assert fields(caught) == ["task.spec.steps[0].command.argv[1]"]


async def test_a_coding_agent_is_stored_and_not_run_yet(stage: Stage) -> None:
    task = await make(stage, spec=RunSpec(steps=(), coding_agent=AGENT))
    kept = await stage.house.database.read(partial(stage.house.spec, sha256=task.spec_sha256))
    assert kept.coding_agent == AGENT
    frozen = stage.house.specs.freeze(kept)
    assert frozen.spec.timeout_s == 3600.0, "an agent that hangs costs money"
    assert stage.house.specs.freeze(SPEC).spec.timeout_s is None, "a command may take as long as it takes"
    with pytest.raises(FailedPrecondition) as caught:
        await runs.create(stage.house, stage.caller, NewRun(project_id=stage.default.id, task_id=task.id))
    assert caught.value.code is ErrorCode.LAUNCHER_UNAVAILABLE
    inline = NewRun(project_id=stage.default.id, spec=kept)
    with pytest.raises(FailedPrecondition):
        await runs.create(stage.house, stage.caller, inline)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"prompt": " "}, "prompt"),
        ({"prompt": "x" * (limits.PROMPT_BYTES + 1)}, "prompt"),
        ({"type": None}, "type"),
        ({"type": AgentType.CUSTOM, "command": ()}, "command"),
        ({"repository": "ext::sh -c x"}, "repository"),
        ({"base_branch": "--upload-pack=x"}, "base_branch"),
        ({"docs_paths": ("../secret",)}, "docs_paths[0]"),
        ({"docs_paths": ("/etc/passwd",)}, "docs_paths[0]"),
        ({"docs_paths": ("a",) * 65}, "docs_paths"),
        ({"max_turns": 10_001}, "max_turns"),
        ({"max_turns": -1}, "max_turns"),
        ({"output_schema": "{"}, "output_schema"),
        ({"output_schema": "[1]"}, "output_schema"),
        ({"max_cost_usd": 0.0}, "max_cost_usd"),
        ({"allowed_tools": ("Bash",)}, "disallowed_tools"),
        ({"allowed_tools": ("x",) * 257}, "allowed_tools"),
        ({"options": {f"o{i}": "" for i in range(65)}}, "options"),
    ],
)
async def test_what_is_wrong_with_a_coding_agent(stage: Stage, change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await make(stage, spec=RunSpec(steps=(), coding_agent=replace(AGENT, **change)))
    assert f"task.spec.coding_agent.{field}" in fields(caught)


async def test_a_spec_has_steps_or_a_coding_agent(stage: Stage) -> None:
    for spec in (RunSpec(steps=()), replace(SPEC, coding_agent=AGENT)):
        with pytest.raises(InvalidArgument) as caught:
            await make(stage, spec=spec)
        assert fields(caught) == ["task.spec.steps"]


async def test_a_deleted_task_comes_back_with_its_schedules(stage: Stage) -> None:
    drafts = (ScheduleDraft(name="nightly", cron="0 3 * * *"), ScheduleDraft(name="resting", every_s=60.0))
    task = await make(stage, schedules=drafts)
    known = await stage.house.database.read(partial(reads.schedules_of_task, task_id=task.id))
    assert [schedule.name for schedule in known] == ["nightly", "resting"]
    await schedules.pause(stage.house, known[1].id, "for now")
    await tasks.delete(stage.house, stage.caller, task.id)
    with pytest.raises(NotFound):
        await runs.create(stage.house, stage.caller, NewRun(project_id=stage.default.id, task_id=task.id))
    stage.clock.advance(3 * 86_400)
    back = await tasks.undelete(stage.house, task.id)
    assert back == replace(task, etag=back.etag, updated_at=stage.clock.now())
    nightly, resting = await stage.house.database.read(partial(reads.schedules_of_task, task_id=task.id))
    assert nightly.next_fire_at is not None
    assert nightly.next_fire_at > stage.clock.now(), "what lay between is not made up for"
    assert (nightly.paused, resting.paused, resting.pause_note) == (False, True, "for now")
    with pytest.raises(FailedPrecondition) as caught:
        await tasks.undelete(stage.house, task.id)
    assert caught.value.code is ErrorCode.TASK_NOT_DELETED


async def test_the_names_of_a_deleted_task_and_its_schedules_are_free(stage: Stage) -> None:
    draft = ScheduleDraft(name="nightly", cron="0 3 * * *")
    old = await make(stage, schedules=(draft,))
    await tasks.delete(stage.house, stage.caller, old.id)
    fresh = await make(stage, schedules=(draft,))
    with pytest.raises(AlreadyExists) as caught:
        await tasks.undelete(stage.house, old.id)
    assert caught.value.code is ErrorCode.NAME_TAKEN
    await tasks.update(stage.house, fresh.id, TaskChange(name="other"))
    await tasks.undelete(stage.house, old.id)
    (kept,) = await stage.house.database.read(partial(reads.schedules_of_task, task_id=old.id))
    assert kept.name == f"nightly ({kept.id[-8:]})"
    assert not kept.paused


async def test_a_purge_is_for_good_and_keeps_the_runs(stage: Stage) -> None:
    task = await make(stage, schedules=(ScheduleDraft(cron="@daily"),), tags=("t",), labels={"a": "b"})
    with pytest.raises(FailedPrecondition):
        await tasks.purge(stage.house, task.id)
    run = await runs.create(stage.house, stage.caller, NewRun(project_id=stage.default.id, task_id=task.id))
    await tasks.delete(stage.house, stage.caller, task.id)
    with pytest.raises(Aborted):
        await tasks.purge(stage.house, task.id, etag="99")
    await tasks.purge(stage.house, task.id)
    assert await stored(stage, task) is None
    assert await stage.house.database.read(partial(reads.schedules_of_task, task_id=task.id)) == ()
    found = await stage.house.database.read(partial(reads.run, run_id=run.id))
    assert found is not None
    assert (found.state, found.task_name, found.tags) == (RunState.CANCELLED, "build", ("t",))
    for verb in (tasks.purge(stage.house, task.id), tasks.undelete(stage.house, task.id)):
        with pytest.raises(NotFound):
            await verb


async def test_a_deleted_task_without_runs_goes_after_a_month(stage: Stage) -> None:
    task = await make(stage, schedules=(ScheduleDraft(cron="@daily"),))
    await tasks.delete(stage.house, stage.caller, task.id)
    stage.clock.advance(29 * 86_400)
    assert (await housekeeping.sweep(stage.house, Keep())).tasks == 0
    stage.clock.advance(2 * 86_400)
    assert (await housekeeping.sweep(stage.house, Keep())).tasks == 1


async def test_a_request_id_makes_one_task_with_one_schedule(stage: Stage) -> None:
    asked = new(stage, schedules=(ScheduleDraft(cron="@daily"),))
    first = await tasks.create(stage.house, stage.asking("r1"), asked)
    assert await tasks.create(stage.house, stage.asking("r1"), asked) == first
    known = await stage.house.database.read(partial(reads.schedules_of_task, task_id=first.id))
    assert [schedule.name for schedule in known] == ["build"]


async def test_schedules_that_come_with_a_task_are_made_with_it_or_not_at_all(stage: Stage) -> None:
    draft = ScheduleDraft(name="nightly", cron="@daily")
    await make(stage, schedules=(draft,))
    with pytest.raises(AlreadyExists):
        await make(stage, "second", schedules=(draft,))
    find = partial(reads.find_task, project_id=stage.default.id, id_or_name="second")
    assert await stage.house.database.read(find) is None
    many = tuple(ScheduleDraft(cron="@daily") for _ in range(limits.SCHEDULES_A_TASK))
    await make(stage, "many", schedules=many)
    with pytest.raises(InvalidArgument) as caught:
        await make(stage, "more", schedules=(*many, many[0]))
    assert fields(caught) == ["task.schedules"]


async def test_sensitive_values_lie_nowhere_in_clear(stage: Stage) -> None:
    spec = RunSpec(
        steps=(Step(command=Command(argv=("x", "{{ token }}"))),), env=(EnvVar(name="E", value="{{ token }}"),)
    )
    declared = (Variable(name="token", sensitive=True), Variable(name="plain"))
    task = await make(stage, spec=spec, variables=declared)
    options = RunOptions(variables={"token": "correct horse", "plain": "seen"})
    run = await runs.create(
        stage.house, stage.asking("r"), NewRun(project_id=stage.default.id, task_id=task.id, options=options)
    )
    assert run.variables is not None
    assert {each.name: each.value for each in run.variables} == {"token": "", "plain": "seen"}
    sealed = await stage.house.database.read(partial(reads.run_secrets, run_id=run.id))
    assert set(sealed) == {"token"}

    def dump(conn: Any) -> str:
        tables = [row[0] for row in conn.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return "".join(str(conn.exec_driver_sql(f'SELECT * FROM "{table}"').all()) for table in tables)

    everything = await stage.house.database.read(dump)
    assert "seen" in everything
    assert "correct horse" not in everything
    await tasks.delete(stage.house, stage.caller, task.id)
    assert await stage.house.database.read(partial(reads.run_secrets, run_id=run.id)) == {}
