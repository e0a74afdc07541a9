"""A value that would reach nothing: which names a task knows."""

from __future__ import annotations

import pytest

from control_plane.domain.coding_agent import CodingAgent
from control_plane.domain.concurrency import ConcurrencyLimit
from control_plane.domain.spec import Command, EnvVar, RunSpec, Step
from control_plane.domain.variable_rules import check_known, check_places
from control_plane.domain.workspace import ArtifactPattern


def spec(*argv: str, **more: object) -> RunSpec:
    return RunSpec(steps=(Step(command=Command(argv=argv or ("true",), **more)),))  # type: ignore[arg-type]


WHO = (EnvVar(name="A", value="{{who}}"),)
KNOWN = [
    ("declared", spec(), ("who",)),
    ("an argument", spec("echo", "x {{ who }}"), ()),
    (
        "env of a step",
        RunSpec(steps=(Step(command=Command(argv=("a",)), env=WHO),)),
        (),
    ),
    ("env", RunSpec(steps=(), env=(EnvVar(name="A", value="{{ who }}"),)), ()),
    ("a shell's words", spec("sh", "-c", 'echo "$BANKSMAN_VAR_WHO"'), ()),
    ("a script", spec(script="import os; os.environ['BANKSMAN_VAR_WHO']"), ()),
    ("standard input", spec("sh", stdin=b"echo ${BANKSMAN_VAR_WHO:-x}"), ()),
    ("another env", RunSpec(steps=(), env=(EnvVar(name="A", value="$BANKSMAN_VAR_WHO"),)), ()),
]


@pytest.mark.parametrize(("what", "of", "declared"), KNOWN, ids=[case[0] for case in KNOWN])
def test_what_is_declared_or_mentioned_is_known(what: str, of: RunSpec, declared: tuple[str, ...]) -> None:
    assert list(check_known(["who"], declared, of, "options.variables")) == []
    (wrong,) = check_known(["who", "where"], declared, of, "options.variables")
    assert wrong.field == "options.variables[where]"


def test_a_name_that_only_begins_like_one_that_is_read_is_not_known() -> None:
    (wrong,) = check_known(["wh"], (), spec("sh", "-c", "echo $BANKSMAN_VAR_WHO"), "v")
    assert wrong.description == "no such variable is declared or used (none would be)"


def test_what_was_meant_is_said() -> None:
    (near,) = check_known(["brnach"], ("branch", "version"), spec("echo", "{{ who }}"), "v")
    assert near.description == "no such variable is declared or used; did you mean 'branch'?"
    (far,) = check_known(["zzz"], ("branch", "version"), spec("echo", "{{ who }}"), "v")
    assert far.description == "no such variable is declared or used (branch, version, who would be)"


def test_other_rules_speak_of_what_is_no_name_or_is_written_otherwise() -> None:
    assert list(check_known(["1a", "WHO"], ("who",), spec(), "v")) == []


def test_prompts_and_keys_of_limits_are_looked_at() -> None:
    limit = ConcurrencyLimit(limit=1, key="{{ who }}")
    of = RunSpec(steps=(), coding_agent=CodingAgent(prompt="Fix {{ issue }}"), concurrency=(limit,))
    assert list(check_known(["who", "issue"], (), of, "v")) == []


def test_patterns_of_artifacts_take_no_variables() -> None:
    patterns = (ArtifactPattern(path="dist/*.whl"), ArtifactPattern(path="app-{{ version }}.tar"))
    of = RunSpec(steps=spec("true").steps, artifacts=patterns)
    (wrong,) = check_places(of, "task.spec", allow_shell_substitution=True)
    assert wrong.field == "task.spec.artifacts[1].path"
    assert "{{ version }}" in wrong.description
