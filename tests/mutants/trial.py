"""One trial: run the tests that are named for a mutant in its copy of the tree, and judge what they said."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from xml.etree import ElementTree

from tests.mutants.copies import copy_of, environment, origin
from tests.mutants.mutant import WATCHERS, Mutant, Unfit

LIMIT_S = 300.0
# A test that is red for one of these has noticed that the program is broken, not that a rule is.
_BROKEN = re.compile(r"\b(ModuleNotFoundError|ImportError|SyntaxError|IndentationError|NameError|UnboundLocalError)\b")
_SAID = re.compile(r"\b((?:AssertionError|TimeoutError|\w+Error|Failed)\b[^\n]*)")


class Outcome(StrEnum):
    """SURVIVED: nobody noticed. UNFIT: it proves nothing, whatever was red."""

    KILLED = "killed"
    SURVIVED = "SURVIVED"
    UNFIT = "UNFIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one mutant: who noticed, by which line, or why nobody counts."""

    mutant: Mutant
    outcome: Outcome
    killer: str = ""
    line: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Red:
    """One test that failed. `in_call`: in its own body, neither while it was made ready nor while it was collected."""

    test: str
    line: str
    text: str
    in_call: bool

    @property
    def counts(self) -> bool:
        return self.in_call and self.test.startswith(WATCHERS) and not _BROKEN.search(self.text)


def run_tests(root: pathlib.Path, tests: Sequence[str], *options: str) -> tuple[int | None, list[Red], str]:
    """(pytest's exit status, None if it had to be ended; the red ones; its last words)."""
    with tempfile.TemporaryDirectory(prefix="bnk-mutant-") as place:
        report = pathlib.Path(place) / "report.xml"
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "junit_family=xunit1"]
        argv += [f"--junitxml={report}", f"--rootdir={root}", *options, *tests]
        status, said = _run(argv, root)
        found = _reds(report) if report.exists() else []
        return status, found, said


def run_command(root: pathlib.Path, command: str) -> tuple[int | None, str]:
    """(exit status, last words) of `python -m command`."""
    return _run([sys.executable, "-m", *shlex.split(command)], root)


def try_mutant(base: pathlib.Path, mutant: Mutant) -> Verdict:
    """Seed it in a fresh copy of `base`, run what is named for it, and remove the copy."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bnk-mutant-") as place:
        root = pathlib.Path(place) / "tree"
        copy_of(base, root)
        try:
            mutant.apply(root)
            _expect_import(root, mutant)
            outcome, killer, line = _judge(root, mutant)
        except Unfit as error:
            outcome, killer, line = Outcome.UNFIT, "", str(error)
    seconds = time.monotonic() - began
    return Verdict(mutant=mutant, outcome=outcome, killer=killer, line=line, seconds=seconds)


def _expect_import(root: pathlib.Path, mutant: Mutant) -> None:
    """The changed file still is a module, and a program that starts now would use it. Raises Unfit."""
    found = origin(root, mutant.module)
    if not found:
        raise Unfit(f"{mutant.module} cannot be imported with it")
    if found != str(root / mutant.file):
        raise Unfit(f"a program would import {mutant.module} from {found}, not from the copy")


def _judge(root: pathlib.Path, mutant: Mutant) -> tuple[Outcome, str, str]:
    """Raises Unfit."""
    excuses = []
    if mutant.tests:
        status, reds, said = run_tests(root, mutant.tests, "-x")
        for red in reds:
            if red.counts:
                return Outcome.KILLED, red.test, red.line
            excuses.append(f"{red.test} was red for another reason: {red.line}")
        if not reds and status != 0:
            excuses.append(f"pytest ended with {status}: {said[-300:]}")
    for command in mutant.commands:
        status, said = run_command(root, command)
        if status == 1 and not _BROKEN.search(said):
            return Outcome.KILLED, f"python -m {command}", last_line(said)
        if status != 0:
            excuses.append(f"python -m {command} ended with {status}: {last_line(said)}")
    if excuses:
        raise Unfit("; ".join(excuses))
    return Outcome.SURVIVED, "", ""


def last_line(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _run(argv: Sequence[str], root: pathlib.Path) -> tuple[int | None, str]:
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            argv,
            cwd=root,
            env=environment(root),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = None
        output.seek(0)
        return status, output.read().decode(errors="replace")


def _reds(report: pathlib.Path) -> list[Red]:
    found = []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        for kind in ("failure", "error"):
            for element in case.iter(kind):
                text = f"{element.get('message', '')}\n{element.text or ''}"
                name = f"{case.get('file', '?')}::{case.get('name', '?')}"
                found.append(Red(test=name, line=_line(text), text=text, in_call=kind == "failure"))
    return found


def _line(text: str) -> str:
    """The assertion's own words. Of a group of errors pytest's summary says nothing: the last one in it counts."""
    head = text.partition("\n")[0].strip()
    inner = [match for match in _SAID.findall(text) if "ExceptionGroup" not in match and "CancelledError" not in match]
    said = inner[-1] if inner and "ExceptionGroup" in head else head
    # One that was raised in a group is told by its repr.
    return said.partition("\\n")[0][:300]
