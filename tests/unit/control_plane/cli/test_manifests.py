"""Documents of things: what is wrong is named with its place, and what is written reads back as the same."""

from __future__ import annotations

import pathlib

import pytest
from banksman.v1 import schedule_pb2, spec_pb2, task_pb2, template_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.cli.comparing import plain
from control_plane.cli.errors import CliError
from control_plane.cli.manifest_writer import yaml_documents
from control_plane.cli.manifests import FIELDS, document_data, read_documents

GOOD = """\
kind: Schedule
name: nightly
task_id: build
cron: '0 3 * * *'
jitter: 90s
start_at: 2030-01-02T03:04:05Z
variables: {stage: test, count: 010, on: yes}
---
kind: Task
name: build
project: web
description:
spec:
  timeout: 1h30m
  steps:
  - command:
      script: |
        set -e
        make "$BANKSMAN_VAR_TARGET"
      stdin: !!binary AAH/
    env:
    - {name: A, value: 1.10}
  retry: {max_attempts: 3, backoff: 250ms}
  loss: {on_lost: retry, never: true}
variables:
- {name: target, default_value: all}
labels: {team: core}
tags: [a, b]
"""
BAD = """\
kind: Task
nmae: build
spec:
  steps:
  - comand: {argv: [make]}
    command:
      argv: make
      argv: [x]
  timeout: soon
  slots: many
  merge_output: 1
  loss: {lost_after: 5m, never: true}
unknown_variables: REFUSED
schedules: []
tags: {a: b}
---
kind: Tsak
---
name: nothing
---
kind: Template
parameters:
- {name: a, type: int}
"""


def written(tmp_path: pathlib.Path, *texts: str) -> list[str]:
    paths = [tmp_path / f"{index}.yaml" for index in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return [str(path) for path in paths]


def test_a_file_is_read_as_it_is_written(tmp_path):
    task, schedule = read_documents(written(tmp_path, GOOD))
    assert (task.kind, task.name, task.project) == ("Task", "build", "web")
    step = task.message.spec.steps[0]
    assert step.kind == spec_pb2.STEP_KIND_MAIN
    assert step.command.script == 'set -e\nmake "$BANKSMAN_VAR_TARGET"\n'
    assert (step.command.stdin, step.env[0].value) == (b"\0\x01\xff", "1.10")
    spec = task.message.spec
    assert (spec.timeout.seconds, spec.retry.backoff.nanos, spec.retry.max_attempts) == (5400, 250_000_000, 3)
    assert (spec.loss.on_lost, spec.loss.never) == (spec_pb2.ON_LOST_RETRY, True)
    assert task.given == {"name", "spec", "variables", "labels", "tags"}
    given = {name: value.string_value for name, value in schedule.message.variables.items()}
    assert given == {"stage": "test", "count": "010", "on": "yes"}
    assert (schedule.message.jitter.seconds, schedule.message.start_at.seconds) == (90, 1893553445)


def test_everything_that_is_wrong_is_named_with_its_place(tmp_path):
    (path,) = written(tmp_path, BAD)
    with pytest.raises(CliError) as caught:
        read_documents([path])
    said = "\n".join(caught.value.details)
    for words in (
        "2:1: Task has no field 'nmae'; did you mean 'name'?",
        "5:5: Step has no field 'comand'; did you mean 'command'?",
        "8:7: 'argv' is given twice",
        "7:13: argv must be a list, such as argv: [make, all]",
        "9:12: timeout: 'soon' is not a duration; write 90s, 5m, 1h30m or 2d",
        "10:10: slots: 'many' is not a whole number",
        "11:17: merge_output: must be true or false",
        "12:26: give either lost_after or never, not both",
        "13:20: unknown_variables: 'REFUSED' is none of KEEP, REFUSE; did you mean 'REFUSE'?",
        "14:1: Task has no field 'schedules'",
        "15:7: tags must be a list, such as tags: [nightly]",
        "17:7: there is no kind 'Tsak': Template, Task, Schedule; did you mean 'Task'?",
        "19:1: a document must have a kind: Template, Task, Schedule",
        "23:19: type: 'int' is none of STRING, INTEGER, NUMBER, BOOLEAN; did you mean 'INTEGER'?",
    ):
        assert f"{path}:{words}" in said
    assert len(caught.value.details) == 14


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("kind: Task\nname: [", "2:8: "),
        ("- a\n", "1:1: a document must be a mapping of names to values"),
        ("kind: Task\n", "1:1: a Task must have a name"),
        ("kind: Task\nname: a\n---\nkind: Task\nname: a\n", "4:1: Task 'a' is described twice"),
        ("kind: Task\nname: {a: b}\n", "2:7: name must be a single value"),
        ("kind: Schedule\nname: s\nonce: soon\n", "3:7: once: 'soon' is not a time"),
        ("kind: Task\nname: a\nspec: {slots: 99999999999}\n", "3:15: slots: 99999999999 is too large"),
        ("kind: Task\nname: \"a\\\n", "3:1: "),
        ("kind: Task\n? [a]\n: b\n", "2:3: a name must be a text"),
    ],
)  # fmt: skip
def test_a_mistake_is_where_it_is(tmp_path, text, wrong):
    (path,) = written(tmp_path, text)
    with pytest.raises(CliError) as caught:
        read_documents([path])
    assert f"{path}:{wrong}" in "\n".join([caught.value.message, *caught.value.details])


TEXT = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
    st.sampled_from(
        ["yes", "1.10", "null", "~", "", " x ", "a\nb\n", "\n\n a", "a\n\n", "# x", "{{ a }}", "- a", "x: y", "\t\n\tx",
         "a\r\nb\n", "\x85\n", "line \nnext", "'\"\\", "=", "!!binary x", "2030-01-01", "\ufeff\n", "a\u2028b\n", "0o7"]
    ),
)  # fmt: skip
VALUES = TEXT.map(lambda text: {"string_value": text})
SPECS = st.builds(
    spec_pb2.RunSpec,
    steps=st.lists(
        st.builds(
            spec_pb2.Step,
            kind=st.sampled_from([1, 2, 3]),
            command=st.builds(
                spec_pb2.Command,
                argv=st.lists(TEXT, max_size=3),
                script=TEXT,
                stdin=st.binary(max_size=8),
                success_exit_codes=st.lists(st.integers(0, 255), max_size=2),
            ),
            env=st.lists(st.one_of(
                st.builds(spec_pb2.EnvVar, name=TEXT, value=TEXT),
                st.builds(spec_pb2.EnvVar, name=TEXT, secret_ref=TEXT),
            ), max_size=2),
        ),
        max_size=2,
    ),
    timeout=st.builds(lambda s, n: {"seconds": s, "nanos": n * 1000}, st.integers(0, 10**6), st.integers(0, 999_999)),
    retry=st.builds(spec_pb2.RetryPolicy, max_attempts=st.integers(0, 5), retry_on=st.lists(TEXT, max_size=2)),
    loss=st.one_of(
        st.builds(spec_pb2.LossPolicy, never=st.booleans()),
        st.builds(spec_pb2.LossPolicy, on_lost=st.sampled_from([1, 2])),
    ),
    selectors=st.lists(
        st.builds(spec_pb2.Selector, key=TEXT, operator=st.sampled_from([1, 2, 3]), values=st.lists(TEXT, max_size=2)),
        max_size=2,
    ),
    priority=st.integers(-100, 100),
    merge_output=st.booleans(),
    coding_agent=st.none() | st.builds(
        spec_pb2.CodingAgent, prompt=TEXT, options=st.dictionaries(TEXT, TEXT, max_size=2),
        max_cost_usd=st.floats(0.01, 1e6),
    ),
)  # fmt: skip
ABOUT = {
    "name": TEXT.filter(lambda text: text != ""),
    "description": TEXT,
    "spec": SPECS,
    "labels": st.dictionaries(TEXT, TEXT, max_size=3),
    "tags": st.lists(TEXT, max_size=3),
    "variables": st.lists(
        st.builds(task_pb2.Variable, name=TEXT, default_value=VALUES, required=st.booleans()), max_size=2
    ),
    "is_public": st.booleans(),
    "unknown_variables": st.sampled_from([1, 2]),
    "notifications": st.lists(
        st.builds(task_pb2.NotificationSettings, events=st.lists(st.integers(1, 8), max_size=3), webhook_url=TEXT),
        max_size=2,
    ),
}  # fmt: skip
THINGS = st.one_of(
    st.builds(task_pb2.Task, active=st.booleans(), **ABOUT),
    st.builds(
        template_pb2.Template,
        parameters=st.lists(
            st.builds(
                template_pb2.TemplateParameter,
                name=TEXT,
                type=st.integers(1, 4),
                default_value=VALUES,
                allowed_values=st.lists(VALUES, max_size=2),
                sensitive=st.booleans(),
            ),
            max_size=2,
        ),
        **ABOUT,
    ),
    st.builds(
        schedule_pb2.Schedule,
        name=ABOUT["name"],
        task_id=TEXT,
        cron=TEXT,
        time_zone=TEXT,
        overlap=st.integers(1, 5),
        variables=st.dictionaries(TEXT, VALUES, max_size=2),
        paused=st.booleans(),
    ),
)


@settings(max_examples=150, deadline=None)
@given(things=st.lists(THINGS, max_size=3, unique_by=lambda thing: (thing.DESCRIPTOR.name, thing.name)))
def test_what_is_written_reads_back_as_the_same(things, tmp_path_factory):
    things.sort(key=lambda thing: list(FIELDS).index(thing.DESCRIPTOR.name))
    text = yaml_documents([document_data(thing.DESCRIPTOR.name, thing) for thing in things])
    path = tmp_path_factory.mktemp("documents") / "things.yaml"
    path.write_text(text, newline="")
    found = read_documents([str(path)])
    assert [document.kind for document in found] == [thing.DESCRIPTOR.name for thing in things]
    for document, thing in zip(found, things, strict=True):
        kind = document.kind
        assert document_data(kind, document.message) == document_data(kind, thing)
        wanted, known = plain(document.message, FIELDS[kind]), plain(thing, FIELDS[kind])
        for data in (wanted, known):
            for name, default in (("active", True), ("is_public", False), ("time_zone", "UTC")):
                if data.get(name) == default:
                    del data[name]
        assert wanted == known
