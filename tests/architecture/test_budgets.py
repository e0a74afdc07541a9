"""Files and functions stay short enough to be read in one sitting."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROOMS = ("control_plane", "runner_agent")
FILE_LINES = 400
FUNCTION_LINES = 60
SERVICER_METHOD_LINES = 14

UNUSED_WORDS = {
    "job",
    "jobs",
    "worker",
    "workers",
    "node",
    "nodes",
    "manager",
    "utils",
    "util",
    "common",
    "helper",
    "helpers",
    "handler",
}


def sources() -> list[pathlib.Path]:
    return sorted(
        path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "migrations/versions" not in str(path)
    )


def functions(path: pathlib.Path) -> Iterator[tuple[str, int]]:
    for item in ast.walk(ast.parse(path.read_text())):
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.end_lineno:
            yield item.name, item.end_lineno - item.lineno + 1


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_fits_its_budget(path: pathlib.Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= FILE_LINES, f"{lines} lines; split the room first"
    too_long = [f"{name}: {length}" for name, length in functions(path) if length > FUNCTION_LINES]
    assert not too_long


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_says_what_it_is_for_and_is_named_in_our_words(path: pathlib.Path) -> None:
    if path.read_text().strip():
        assert ast.get_docstring(ast.parse(path.read_text())), "the first line says what the file is for"
    assert not UNUSED_WORDS & set(path.stem.split("_"))


def test_servicer_methods_are_thin() -> None:
    thick = []
    for path in (ROOT / "control_plane" / "api").glob("*.py"):
        for item in ast.walk(ast.parse(path.read_text())):
            if isinstance(item, ast.ClassDef) and any("Servicer" in ast.unparse(base) for base in item.bases):
                thick += [
                    f"{path.name}:{method.name}"
                    for method in item.body
                    if isinstance(method, ast.AsyncFunctionDef)
                    and not method.name.startswith("_")
                    and (method.end_lineno or 0) - method.lineno + 1 > SERVICER_METHOD_LINES
                ]
    assert not thick
