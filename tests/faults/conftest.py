"""The fixture `figures`, the table at the end, and what is collected only as root."""

from __future__ import annotations

import os
import pathlib
import sys

import pytest

from tests.faults.figures import Figures, Recorder, table
from tests.scenarios.conftest import house, pytest_runtest_makereport

__all__ = ["figures", "house", "pytest_runtest_makereport"]

# Set by `python -m tests.faults`.
KEEP = "BANKSMAN_FIGURES"
WHOLE = "BANKSMAN_FIGURES_WHOLE"

FOUND = pytest.StashKey[Figures]()

collect_ignore = [] if os.geteuid() == 0 else ["root"]


def _found(config: pytest.Config) -> Figures:
    return config.stash.setdefault(FOUND, Figures())


def _absent(config: pytest.Config) -> list[str]:
    return _found(config).absent() if os.environ.get(WHOLE) else []


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Recorder:
    """Record what this test measured: figures.record(name, value, unit=, goal=, ok=, spread=)."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    said: list[str] = []

    def say(text: str) -> None:
        with capture.global_and_fixture_disabled():
            sys.stdout.write(f"    {text}\n" if said else f"\n    {text}\n")
            sys.stdout.flush()
        said.append(text)

    return Recorder(test=request.node.nodeid, figures=_found(request.config), _say=say)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep the figures; a goal that was missed or not measured is a failure."""
    found = _found(session.config)
    if (found.missed or _absent(session.config)) and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if path := os.environ.get(KEEP):
        found.write(pathlib.Path(path), absent=_absent(session.config), exit_status=int(session.exitstatus))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found, absent = _found(config), _absent(config)
    if found.found or absent:
        terminalreporter.section("figures")
        for line in table(found.found, absent):
            terminalreporter.write_line(line)
        for figure in found.found:
            if figure.note:
                terminalreporter.write_line(f"{figure.name}: {figure.note}")
