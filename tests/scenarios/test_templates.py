"""Templates from the command line to the program, and files that make the same things on every server."""

from __future__ import annotations

import json
import pathlib
import sqlite3

import click.testing
import pytest
from banksman.v1 import spec_pb2, task_pb2, template_pb2
from google.protobuf.struct_pb2 import Value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane.cli.clock import SystemClock
from control_plane.cli.invocation import Invocation
from control_plane.cli.main import cli
from control_plane.cli.manifest_writer import yaml_documents
from control_plane.cli.manifests import document_data
from tests.scenarios.house import House

SHOW = (
    "import json, os, sys; print(json.dumps([sys.argv[1:], {k: os.environ.get(k) for k in ('E', 'BANKSMAN_VAR_P')}]))"
)
TEMPLATE = f"""\
kind: Template
name: show
parameters:
- {{name: a, required: true}}
- {{name: n, type: INTEGER, default_value: 3}}
- {{name: p, sensitive: true, required: true}}
variables:
- {{name: v, default_value: free}}
spec:
  env:
  - {{name: E, value: '<{{{{ a }}}}>'}}
  steps:
  - command:
      argv: [/usr/bin/env, python3, -c, "{SHOW}", '{{{{ a }}}}', '{{{{ n }}}}', '{{{{ v }}}}']
tags: [shown]
"""
EVIL = "$(id) {{ v }} '\" {{{{ \n é"


def ok(house: House, *arguments: str, input: bytes = b"", **extra: str) -> str:
    done = house.cli(*arguments, input=input, extra=extra)
    assert done.returncode == 0, (arguments, done.stdout.decode(), done.stderr.decode())
    return done.stdout.decode()


def test_a_template_is_run_and_makes_tasks(shared: House) -> None:
    assert ok(shared, "apply", "-f", "-", input=TEMPLATE.encode()) == "created template show\n"
    run = ("template", "run", "show", "-p", f"a={EVIL}", "--sensitive-param", "p", "--follow")
    arguments, surroundings = json.loads(ok(shared, *run, p="correct horse"))
    assert arguments == [EVIL, "3", "free"]
    assert surroundings == {"E": f"<{EVIL}>", "BANKSMAN_VAR_P": "***"}
    assert "template\tshow (version 1)\n" in ok(shared, "run", "get", "@last")
    direct = json.loads(ok(shared, "run", "get", "@last", "-o", "json"))
    assert (direct["template_name"], direct["template_version"], direct["task_id"]) == ("show", 1, "")

    newer = TEMPLATE.replace("default_value: 3", "default_value: 4").encode()
    assert ok(shared, "apply", "-f", "-", input=newer) == "updated template show: parameters\n"
    ok(shared, "secret", "set", "TEMPLATE_P", input=b"correct horse")
    made = ("template", "instantiate", "show", "shown", "-p", "a=1", "--secret-param", "p=TEMPLATE_P")
    ok(shared, *made)
    arguments, surroundings = json.loads(ok(shared, "task", "run", "shown", "--follow", "--var", "v=given"))
    assert (arguments, surroundings["BANKSMAN_VAR_P"]) == (["1", "4", "given"], "***")
    assert "template\tshow (version 2)\n" in ok(shared, "task", "get", "shown")
    assert ok(shared, "task", "list", "--filter", "template = show", "-o", "name") == "shown\n"
    assert len(ok(shared, "run", "list", "--filter", "template = show", "-o", "name").splitlines()) == 2
    in_use = shared.cli("secret", "rm", "TEMPLATE_P", "--yes")
    assert (in_use.returncode, b"in use by task shown" in in_use.stderr) == (6, True)
    task = json.loads(ok(shared, "task", "get", "shown", "-o", "json"))
    assert (task["template_name"], task["template_version"], task["tags"]) == ("show", 2, ["shown"])
    old = json.loads(ok(shared, "template", "get", "show", "--version", "1", "-o", "json"))
    assert old["parameters"][1]["default_value"] == "3"

    refused = shared.cli("template", "run", "show", "-p", "n=x", "-p", "z=1")
    assert refused.returncode == 2
    for name in ("a", "n", "p", "z"):
        assert f"template.parameters[{name}]" in refused.stderr.decode()
    ok(shared, "template", "delete", "show", "--yes")
    assert shared.cli("template", "get", "show").returncode == 3
    assert json.loads(ok(shared, "run", "get", direct["id"], "-o", "json"))["template_id"] == direct["template_id"]


def test_no_value_of_a_sensitive_parameter_is_stored_in_clear(shared: House) -> None:
    ok(shared, "apply", "-f", "-", input=TEMPLATE.replace("name: show", "name: kept").encode())
    ok(shared, "template", "run", "kept", "-p", "a=1", "--sensitive-param", "p", "--follow", p="unmistakable battery")
    database = next(pathlib.Path(shared.root).rglob("banksman.db"))
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        assert "unmistakable battery" not in "\n".join(connection.iterdump())


def test_mistakes_are_named_with_their_places_and_the_rest_is_made(shared: House) -> None:
    file = b"""\
kind: Task
name: half good
spec:
  steps:
  - command:
      argv: [sh, -c, 'echo {{ a }}']
  slots: 100000
---
kind: Task
name: half too
spec: {steps: [{command: {argv: ['true']}}]}
"""
    done = shared.cli("apply", "-f", "-", input=file)
    assert (done.returncode, done.stdout.decode()) == (2, "created task half too\n")
    said = done.stderr.decode()
    assert "-:6:22: task.spec.steps[0].command.argv[2]: " in said
    assert "-:7:3: task.spec.slots: " in said
    unread = shared.cli("apply", "-f", "-", input=file.replace(b"slots", b"slotz").replace(b"half too", b"not made"))
    assert (unread.returncode, unread.stdout) == (2, b"")
    assert shared.cli("task", "get", "not made").returncode == 3


REHEARSED = b"""\
kind: Task
name: rehearsed
spec: {steps: [{command: {argv: [/bin/echo, '{{ who }}']}, env: [{name: K, secret_ref: REHEARSED}]}]}
---
kind: Schedule
name: rehearsed daily
task_id: rehearsed
cron: '@daily'
time_zone: Europe/Berlim
variables: {whoo: x}
"""


def test_a_dry_run_tells_what_would_be_refused_and_stores_nothing(shared: House) -> None:
    wrong = shared.cli("apply", "--dry-run", "-f", "-", input=REHEARSED)
    assert (wrong.returncode, wrong.stdout) == (2, b"")
    said = wrong.stderr.decode()
    assert "2 of 2 would be refused" in said
    assert "-:3:76: task.spec.steps[0].env[0].secret_ref: there is no secret REHEARSED" in said
    assert "-:9:1: schedule.time_zone: " in said
    assert "-:10:13: schedule.variables[whoo]: no such variable is declared or used; did you mean 'who'?" in said
    ok(shared, "secret", "set", "REHEARSED", input=b"long enough")
    right = REHEARSED.replace(b"Berlim", b"Berlin").replace(b"whoo", b"who")
    would = "would create task rehearsed\nwould create schedule rehearsed daily\n"
    assert ok(shared, "apply", "--dry-run", "-f", "-", input=right) == would
    assert shared.cli("task", "get", "rehearsed").returncode == 3
    ok(shared, "apply", "-f", "-", input=right)
    # The schedule is asked about with its task as it would be, not as it is.
    changed = right.replace(b"{{ who }}", b"{{ whom }}").replace(b"{who: x}", b"{whom: x}")
    would = "would update task rehearsed: spec\nwould update schedule rehearsed daily: variables\n"
    assert ok(shared, "apply", "--dry-run", "-f", "-", input=changed) == would
    broken = changed.replace(b"'@daily'", b"61 0 * * *")
    assert "schedule.cron: " in shared.cli("apply", "--dry-run", "-f", "-", input=broken).stderr.decode()
    assert ok(shared, "apply", "-f", "-", input=right).count("unchanged") == 2


NAME = st.text("abcdefghijk. -:#'\"{}éß", min_size=1, max_size=12).map(lambda text: f"x{text}x")
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0{"), max_size=20)
WORD = st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,8}", fullmatch=True)
SECONDS = st.integers(1_000, 10**7).map(lambda ms: {"seconds": ms // 1000, "nanos": ms % 1000 * 1_000_000})
ENV = st.lists(st.builds(spec_pb2.EnvVar, name=WORD, value=TEXT), max_size=3)
COMMANDS = st.one_of(
    st.builds(spec_pb2.Command, argv=st.lists(TEXT.map(lambda text: f"a{text}"), min_size=1, max_size=3)),
    st.builds(spec_pb2.Command, script=TEXT.map(lambda text: f"#{text}\n"), stdin=st.binary(max_size=9)),
)
SPECS = st.builds(
    spec_pb2.RunSpec,
    steps=st.lists(st.builds(spec_pb2.Step, kind=st.just(1), command=COMMANDS, env=ENV), min_size=1, max_size=2),
    env=ENV,
    timeout=st.none() | SECONDS,
    retry=st.builds(spec_pb2.RetryPolicy, max_attempts=st.integers(0, 9), backoff=st.none() | SECONDS),
    priority=st.integers(-100, 100),
    merge_output=st.booleans(),
    selectors=st.lists(
        st.builds(spec_pb2.Selector, key=WORD, operator=st.sampled_from([1, 2]), values=st.lists(WORD, min_size=1)),
        max_size=2,
    ),
)
DEFAULT = st.one_of(TEXT, st.sampled_from(["1.10", "yes", "null", "", "{{ x }}"])).map(lambda t: Value(string_value=t))
VARIABLES = st.lists(
    st.builds(task_pb2.Variable, name=WORD, default_value=st.none() | DEFAULT, required=st.booleans()),
    max_size=2,
    unique_by=lambda variable: variable.name.upper(),
)
ABOUT = {
    "name": NAME,
    "description": TEXT,
    "spec": SPECS,
    "labels": st.dictionaries(WORD, WORD, max_size=2),
    "tags": st.lists(NAME, max_size=2),
    "is_public": st.booleans(),
    "unknown_variables": st.sampled_from([1, 2]),
}
PARAMETERS = st.lists(
    st.builds(
        template_pb2.TemplateParameter,
        name=WORD,
        type=st.just(1),
        default_value=st.none() | DEFAULT,
        description=TEXT,
    ),
    max_size=2,
    unique_by=lambda parameter: parameter.name.upper(),
)
THINGS = st.one_of(
    st.builds(task_pb2.Task, active=st.booleans(), variables=VARIABLES, **ABOUT),
    st.builds(template_pb2.Template, parameters=PARAMETERS, **ABOUT),
)


@pytest.fixture(scope="module")
def numbers() -> list[int]:
    """How many projects there have been."""
    return [0]


def called(house: House, *arguments: str, given: str = "") -> str:
    """The CLI in this process: many calls in little time."""
    inv = Invocation(
        environ={"BANKSMAN_URL": house.admin.url, "BANKSMAN_TOKEN": house.admin.token}, clock=SystemClock()
    )
    done = click.testing.CliRunner().invoke(cli, list(arguments), obj=inv, input=given.encode())
    assert done.exit_code == 0, (given, done.output)
    return done.stdout


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(things=st.lists(THINGS, min_size=1, max_size=4, unique_by=lambda thing: thing.name))
def test_what_is_exported_makes_the_same_elsewhere(shared: House, numbers: list[int], things: list[object]) -> None:
    documents = [document_data(type(thing).__name__, thing) for thing in things]
    texts = [yaml_documents(documents)]
    for _ in range(2):
        numbers[0] += 1
        project = f"files {numbers[0]}"
        called(shared, "project", "create", project)
        called(shared, "apply", "--project", project, "-f", "-", given=texts[-1])
        texts.append(called(shared, "export", "--all", "--project", project))
    assert texts[1] == texts[2]
    for text in texts[:2]:
        again = called(shared, "apply", "--project", project, "-f", "-", "-o", "jsonl", given=text)
        assert {json.loads(line)["action"] for line in again.splitlines()} == {"unchanged"}
