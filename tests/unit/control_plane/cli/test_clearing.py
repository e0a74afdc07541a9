"""`task update --clear`: what an option has set can be taken away again, alone or to be set anew."""

from __future__ import annotations

from typing import Any

import click
import pytest
from banksman.v1 import spec_pb2, task_pb2

from control_plane.cli.clearing import FIELDS, clear
from control_plane.cli.tasks import create
from tests.unit.control_plane.cli.console import Outcome, banksman

STORED = task_pb2.Task(
    id="018f9c1e-0000-7000-8000-00000000abcd", name="build", description="d", tags=["old"], labels={"a": "b"}, etag="7"
)
STORED.spec.steps.add().command.argv.append("make")
STORED.spec.timeout.seconds = 60
STORED.spec.loss.never = True
STORED.spec.env.add(name="A", value="1")


def update(*args: str, stored: task_pb2.Task = STORED) -> Outcome:
    return banksman("task", "update", "build", *args, script=[("GetTask", stored), ("UpdateTask", stored)])


def sent(outcome: Outcome) -> Any:
    request = outcome.calls[1].request
    return request.task, list(request.update_mask.paths)


def test_what_is_cleared_is_absent_in_the_update_and_named_in_its_mask() -> None:
    task, mask = sent(update("--clear", "timeout", "--clear", "tag", "--clear", "task-label", "--clear", "lost-after"))
    assert mask == ["labels", "spec", "tags"]
    assert (list(task.tags), dict(task.labels), task.description) == ([], {}, "d")
    assert not task.spec.HasField("timeout")
    assert not task.spec.HasField("loss")
    assert [list(step.command.argv) for step in task.spec.steps] == [["make"]]


def test_what_is_given_too_is_set_anew() -> None:
    task, mask = sent(update("--clear", "env", "-e", "B=2", "--clear", "description", "--timeout", "5s"))
    assert mask == ["description", "spec"]
    assert [(each.name, each.value) for each in task.spec.env] == [("B", "2")]
    assert (task.description, task.spec.timeout.seconds) == ("", 5)


def test_clearing_what_is_not_set_is_no_mistake() -> None:
    task, mask = sent(update("--clear", "notify", "--clear", "on-lost"))
    assert mask == ["notifications", "spec"]
    assert task.spec == STORED.spec


def test_a_command_among_several_is_changed_in_a_file() -> None:
    stored = task_pb2.Task.FromString(STORED.SerializeToString())
    stored.spec.steps.add().command.argv.append("test")
    outcome = banksman("task", "update", "build", "--clear", "cwd", script=[("GetTask", stored)])
    assert outcome.exit_code == 2
    assert "several steps" in outcome.stderr


def test_a_word_that_is_no_option_is_told_which_are() -> None:
    outcome = banksman("task", "update", "build", "--clear", "timeouts")
    assert outcome.exit_code == 2
    assert "idle-timeout" in outcome.stderr


def whole() -> task_pb2.Task:
    """A task that has everything that can be cleared."""
    task = task_pb2.Task(
        description="d",
        tags=["t"],
        labels={"a": "b"},
        variables=[task_pb2.Variable(name="v")],
        unknown_variables=task_pb2.UNKNOWN_VARIABLES_REFUSE,
        allowed_overrides=["env"],
        report=task_pb2.ReportSettings(enabled=True),
        notifications=[task_pb2.NotificationSettings(webhook_url="https://h.example/")],
    )
    spec = spec_pb2.RunSpec(
        slots=2,
        stop_signal="SIGINT",
        log_limit_bytes=1,
        priority=1,
        runner="r",
        retry=spec_pb2.RetryPolicy(max_attempts=2),
    )
    for name in ("timeout", "idle_timeout", "queue_timeout", "start_timeout", "grace"):
        getattr(spec, name).seconds = 1
    spec.steps.add(command=spec_pb2.Command(working_directory="d", stdin=b"x", success_exit_codes=[1]))
    spec.env.add(name="A")
    spec.selectors.add(key="k")
    spec.loss.on_lost = spec_pb2.ON_LOST_RETRY
    spec.loss.lost_after.seconds = 1
    spec.concurrency.add(limit=1)
    spec.artifacts.add(path="*")
    spec.workspace.removal = spec_pb2.WORKSPACE_REMOVAL_NEVER
    task.spec.CopyFrom(spec)
    return task


@pytest.mark.parametrize("name", FIELDS)
def test_each_word_is_an_option_and_clears_something(name: str) -> None:
    assert isinstance(create, click.Command)
    assert any(f"--{name}" in option.opts for option in create.params)
    task = whole()
    before = task.ByteSize()
    assert clear(task, [name])
    assert task.ByteSize() < before


def test_all_of_them_leave_only_the_command() -> None:
    task = whole()
    clear(task, list(FIELDS))
    left = task_pb2.Task()
    left.spec.steps.add().command.SetInParent()
    assert task == left
