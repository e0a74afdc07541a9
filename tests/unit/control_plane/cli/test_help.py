"""Help is complete, and costs no import that it does not need."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from control_plane.cli.commands import LazyGroup, Leaf
from control_plane.cli.main import cli
from tests.unit.control_plane.cli.console import banksman

PAGE = pathlib.Path(__file__).resolve().parents[4] / "docs/cli.md"
HEAVY = {"grpc", "rich", "yaml", "banksman", "google", "sqlalchemy", "asyncio"}


def every_command(group: LazyGroup, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        found = group.get_command(ctx, name)
        assert found is not None
        yield (*path, name), found
        if isinstance(found, LazyGroup):
            yield from every_command(found, *path, name)


ALL = dict(every_command(cli))
PROMISED = {
    "run": "exec list get watch wait cancel retry delete pin unpin logs report artifacts download",
    "task": "create list get update delete undelete delete-runs purge run",
    "template": "create list get update delete instantiate run",
    "schedule": "create list get update delete pause resume trigger next firings backfill",
    "project": "create list get update delete",
    "token": "create list revoke",
    "notification": "list redeliver",
    "principal": "create list update",
    "secret": "set list rm",
    "runner": "list get drain resume revoke mark-lost join-token",
    "audit": "list verify export",
    "system": "gc",
    "context": "list use set rm",
}


def test_the_page_lists_every_command() -> None:
    rows = PAGE.read_text().split("## Commands", 1)[1].split("\n\n", 2)[1].replace("\\|", "|")
    listed = set()
    for cell in re.findall(r"`([^`]+)`", rows):
        *nouns, verbs = cell.split()
        listed |= {(*nouns, verb) for verb in verbs.split("|")}
    # What follows these two words is an argument.
    listed = {path[:1] if path[0] in ("completion", "help") else path for path in listed}
    assert listed == {path for path, found in ALL.items() if not isinstance(found, LazyGroup)}


def test_every_promised_verb_exists() -> None:
    for noun, verbs in PROMISED.items():
        assert {path[1] for path in ALL if path[0] == noun and len(path) == 2} == set(verbs.split())
    assert {path[0] for path in ALL if len(path) == 1} == {
        *PROMISED,
        "apply",
        "diff",
        "export",
        "login",
        "whoami",
        "status",
        "version",
        "completion",
        "dev",
        "help",
    }


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_a_command_explains_itself(path: tuple[str, ...]) -> None:
    outcome = banksman(*path, "--help", environ={})
    assert outcome.exit_code == 0
    assert "Global options:" in outcome.stdout
    found = ALL[path]
    if isinstance(found, Leaf):
        assert "Examples:" in outcome.stdout
        assert found.get_short_help_str(65)[-3:] != "...", "its first line is too long for the list"
        assert all(
            param.get_help_record(click.Context(found)) for param in found.params if isinstance(param, click.Option)
        )


def test_help_imports_nothing_heavy() -> None:
    """Said by the modules that are there afterwards: a time would depend on the machine."""
    lines = [["--help"], *([*path, "--help"] for path in ALL)]
    script = f"""
import json, sys
from control_plane.cli.main import cli
for line in {lines!r}:
    try:
        cli.main(line, prog_name="banksman")
    except SystemExit as end:
        assert end.code == 0, line
print("\\n" + json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not loaded & HEAVY
    assert "click" in loaded


def test_a_typing_error_is_answered_with_a_suggestion() -> None:
    outcome = banksman("rnu")
    assert outcome.exit_code == 2
    assert "Did you mean run?" in outcome.stderr


@pytest.mark.parametrize("topic", ["exit-codes", "environment", "formatting"])
def test_topics(topic: str) -> None:
    assert len(banksman("help", topic).stdout.splitlines()) > 5


def test_help_of_a_command_and_of_nothing() -> None:
    assert "--propagate-exit-code" in banksman("help", "run", "exec").stdout
    assert "Commands:" in banksman("help").stdout
    assert banksman("help", "nonsense").exit_code == 2


def test_versions() -> None:
    assert banksman("--version").stdout.startswith("banksman ")
    alone = banksman("version", environ={"HOME": "/nonexistent"})
    assert alone.exit_code == 0
    assert "none answered" in alone.stdout


def test_options_are_options() -> None:
    """What stands in the usage line already is no option."""
    shown = banksman("run", "exec", "--help").stdout
    assert shown.count("[CMD]...") == 1
