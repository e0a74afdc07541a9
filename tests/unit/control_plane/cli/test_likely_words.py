"""Words of other tools in a file: the error names ours, and the line that it shows is one that a file may hold."""

from __future__ import annotations

import pathlib

import pytest

from control_plane.cli.errors import CliError
from control_plane.cli.likely_words import _INSTEAD, EXAMPLES
from control_plane.cli.manifests import read_documents

# Where a field of each message stands.
IN = {
    "RunSpec": "kind: Task\nname: a\nspec:\n  {}\n",
    "Step": "kind: Task\nname: a\nspec:\n  steps:\n  - {}\n",
    "Command": "kind: Task\nname: a\nspec:\n  steps:\n  - command:\n      {}\n",
    "Selector": "kind: Task\nname: a\nspec:\n  selectors:\n  - {}\n",
    "EnvVar": "kind: Task\nname: a\nspec:\n  env:\n  - {}\n",
    "RetryPolicy": "kind: Task\nname: a\nspec:\n  retry:\n    {}\n",
    "Variable": "kind: Task\nname: a\nvariables:\n- {}\n",
    "NotificationSettings": "kind: Task\nname: a\nnotifications:\n- {}\n",
    "Task": "kind: Task\nname: a\n{}\n",
    "Template": "kind: Template\nname: a\n{}\n",
    "Schedule": "kind: Schedule\nname: a\n{}\n",
}
WORDS = [(message, word) for message, words in _INSTEAD.items() for word in words]


def refused(tmp_path: pathlib.Path, text: str) -> str:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(CliError) as caught:
        read_documents([str(path)])
    return caught.value.message


def accepted(tmp_path: pathlib.Path, text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    assert len(read_documents([str(path)])) == 1


def test_a_command_beside_a_spec_is_told_of_steps(tmp_path: pathlib.Path) -> None:
    said = refused(tmp_path, "kind: Task\nname: a\nspec:\n  command: [make, all]\n")
    assert said.endswith(
        ":4:3: RunSpec has no field 'command'; it is called 'steps' here: steps: [{command: {argv: [make, all]}}]"
    )


@pytest.mark.parametrize(("message", "word"), WORDS)
def test_the_line_that_is_shown_can_be_taken_as_it_stands(tmp_path: pathlib.Path, message: str, word: str) -> None:
    line = _INSTEAD[message][word]
    said = refused(tmp_path, IN[message].format(f"{word}: x"))
    assert said.endswith(f"it is called {line.partition(':')[0]!r} here: {line}")
    accepted(tmp_path, IN[message].format(line))


@pytest.mark.parametrize("field", EXAMPLES)
def test_each_example_is_one(tmp_path: pathlib.Path, field: str) -> None:
    where = {"command": "Step", "values": "Selector", "retry_on": "RetryPolicy", "parameters": "Template"}
    where |= dict.fromkeys(("argv", "script", "interpreter", "success_exit_codes"), "Command")
    where |= dict.fromkeys(("spec", "variables", "tags", "labels", "report", "notifications"), "Task")
    where["events"] = "NotificationSettings"
    accepted(tmp_path, IN[where.get(field, "RunSpec")].format(EXAMPLES[field]))


@pytest.mark.parametrize(
    ("kind", "line", "hint"),
    [
        ("Task", "timeout: 5m", "it belongs into 'spec'"),
        ("Task", "env: {A: b}", "it belongs into 'spec': spec: {env: [{name: STAGE, value: \"test\"}]}"),
        ("Template", "cmd: make", "it belongs into 'spec': spec: {steps: [{command: {argv: [make, all]}}]}"),
        ("Task", "cron: 0 3 * * *", "a schedule is a document of its own, of the kind Schedule, with task_id"),
        ("Task", "spec: {env: {A: b}}", 'env must be a list, such as env: [{name: STAGE, value: "test"}]'),
        (
            "Task",
            "spec: {retry: 3}",
            "RetryPolicy must be a mapping of names to values, such as retry: {max_attempts: 3}",
        ),
        ("Task", "labels: [a]", "labels must be a mapping of names to values, such as labels: {team: core}"),
        ("Schedule", "timeout: 5m", "Schedule has no field 'timeout'; did you mean 'time_zone'?"),
    ],
)
def test_the_right_place_and_shape_are_said(tmp_path: pathlib.Path, kind: str, line: str, hint: str) -> None:
    assert refused(tmp_path, f"kind: {kind}\nname: a\n{line}\n").endswith(hint)
