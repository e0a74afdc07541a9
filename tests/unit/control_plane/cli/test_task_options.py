"""What the options of a task, of its variables and of one run put into a request."""

from __future__ import annotations

from typing import Any

import pytest
from banksman.v1 import run_pb2, spec_pb2, task_pb2

from control_plane.cli import override_options, task_options, variable_options
from control_plane.cli.errors import CliError
from control_plane.cli.tasks import with_tags
from control_plane.domain.overrides import OVERRIDABLE

SILENT: dict[str, Any] = {
    name: ()
    if name in ("tag", "task_label", "allow_override", "report", "notify", *variable_options.DECLARING)
    else None
    for name in task_options.NAMES
} | {"no_report": False}


def changed(task: task_pb2.Task, **given: Any) -> list[str]:
    return task_options.change(task, SILENT | given)


def test_silence_changes_nothing() -> None:
    task = task_pb2.Task(name="n", tags=["t"])
    before = task_pb2.Task.FromString(task.SerializeToString())
    assert changed(task) == []
    assert task == before


def test_each_option_sets_its_field() -> None:
    task = task_pb2.Task(tags=["old"])
    fields = changed(
        task,
        description="d",
        owner="ann",
        public=True,
        unknown_variables="refuse",
        allow_shell_substitution=False,
        tag=("a", "b"),
        task_label=("k=v",),
        allow_override=("env",),
        report=("json", "pdf"),
        notify=("failed,lost=https://h/", "created=secret:HOOK"),
        var=("a=1=2",),
        required_var=("r",),
        sensitive_var=("s",),
        secret_var=("t=TOKEN",),
    )
    assert set(fields) == {
        *("description", "owner", "is_public", "unknown_variables", "allow_shell_substitution", "tags", "labels"),
        *("allowed_overrides", "report", "notifications", "variables"),
    }
    assert list(task.tags) == ["a", "b"]
    assert task.HasField("allow_shell_substitution")
    assert list(task.report.formats) == [task_pb2.REPORT_FORMAT_JSON, task_pb2.REPORT_FORMAT_PDF]
    first, second = task.notifications
    assert (list(first.events), first.webhook_url) == ([5, 7], "https://h/")
    assert (list(second.events), second.webhook_url, second.secret_ref) == ([1], "", "HOOK")
    named = {variable.name: variable for variable in task.variables}
    assert named["a"].default_value.string_value == "1=2"
    assert (named["r"].required, named["s"].sensitive, named["t"].secret_ref) == (True, True, "TOKEN")


def test_a_declaration_replaces_one_of_the_same_name_and_keeps_the_others() -> None:
    task = task_pb2.Task(variables=[task_pb2.Variable(name="a", required=True), task_pb2.Variable(name="b")])
    assert changed(task, var=("a=x",)) == ["variables"]
    assert [(each.name, each.required, each.HasField("default_value")) for each in task.variables] == [
        ("b", False, False),
        ("a", False, True),
    ]


def test_reports_are_turned_off() -> None:
    task = task_pb2.Task(report=task_pb2.ReportSettings(enabled=True, formats=[1]))
    assert changed(task, no_report=True) == ["report"]
    assert task.report == task_pb2.ReportSettings()
    with pytest.raises(CliError):
        changed(task, no_report=True, report=("pdf",))


@pytest.mark.parametrize(
    "given",
    [
        {"notify": ("failed",)},
        {"notify": ("exploded=https://h/",)},
        {"notify": ("failed=",)},
        {"var": ("a",)},
        {"secret_var": ("=x",)},
        {"task_label": ("a",)},
        {"description": "\udcff"},
    ],
)
def test_what_cannot_be_meant_is_said(given: dict[str, Any]) -> None:
    with pytest.raises(CliError):
        changed(task_pb2.Task(), **given)


class Surroundings:
    """As much of an invocation as the options look at."""

    def __init__(self) -> None:
        self.environ = {"TOKEN": "from outside", "STAGE": "test"}


def test_a_run_brings_values() -> None:
    options = run_pb2.RunOptions()
    variable_options.give(Surroundings(), options, ("a=1",), ("TOKEN", "b=2"))  # type: ignore[arg-type]
    values = {name: value.string_value for name, value in options.variables.items()}
    assert values == {"a": "1", "TOKEN": "from outside", "b": "2"}
    assert list(options.sensitive_variables) == ["TOKEN", "b"]
    with pytest.raises(CliError):
        variable_options.give(Surroundings(), options, (), ("MISSING",))  # type: ignore[arg-type]


def test_a_run_does_otherwise() -> None:
    silent = {name: () if name in ("env", "label") else None for name in override_options.NAMES}
    options = run_pb2.RunOptions()
    override_options.override(Surroundings(), options, silent)  # type: ignore[arg-type]
    assert not options.HasField("overrides")
    given = silent | {
        "timeout": 5.0,
        "grace": 0.0,
        "env": ("STAGE", "A=b=c"),
        "label": ("os=linux",),
        "runner": "r1",
        "slots": 2,
        "retry": 1,
        "on_lost": "retry",
        "cwd": "sub",
    }
    override_options.override(Surroundings(), options, given)  # type: ignore[arg-type]
    made = options.overrides
    assert (made.timeout.seconds, made.HasField("grace"), made.slots, made.runner) == (5, True, 2, "r1")
    assert [(each.name, each.value) for each in made.env] == [("STAGE", "test"), ("A", "b=c")]
    assert (made.retry.max_attempts, made.loss.on_lost, made.working_directory) == (2, spec_pb2.ON_LOST_RETRY, "sub")


def test_the_command_line_knows_every_override() -> None:
    assert set(task_options.OVERRIDES) == set(OVERRIDABLE) == set(run_pb2.RunOverrides.DESCRIPTOR.fields_by_name)


def test_tags_become_a_filter() -> None:
    assert with_tags("", ()) == ""
    assert with_tags("a = b OR c = d", ('say "hi"',)) == '(a = b OR c = d) AND tag : "say \\"hi\\""'


@pytest.mark.parametrize("field", ["required", "sensitive"])
def test_a_value_where_only_a_name_belongs_is_refused_with_what_was_meant(field: str) -> None:
    with pytest.raises(CliError, match=f"--{field}-var pw takes no value here") as caught:
        changed(task_pb2.Task(), **{f"{field}_var": ("pw=correct horse",)})
    assert "correct horse" not in str(caught.value)
