"""The documentation's tables of filter fields are those that the product has."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping

import pytest

from control_plane.domain.filter_fields import AUDIT_FIELDS, RUN_FIELDS, TASK_FIELDS
from control_plane.domain.filters import OPERATORS, Field, Kind

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "tasks.md"
ROW = re.compile(r"^\| `([a-z_]+)(?:\.KEY)?` \| ([^|]+) \|", re.MULTILINE)


def table(title: str) -> dict[str, list[str]]:
    """Field to operators, as the table under this word says."""
    body = PAGE.read_text().split(f"\n{title}:\n", 1)[1]
    rows = body.split("|---|---|---|\n", 1)[1].split("\n\n", 1)[0]
    return {match[1]: re.findall(r"`([^`]+)`", match[2]) for match in ROW.finditer(rows)}


def known(fields: Mapping[str, Field]) -> dict[str, list[str]]:
    return {
        name: [str(each) for each in OPERATORS[field.kind] if not (field.kind is Kind.MAP and each == ":")]
        for name, field in fields.items()
    }


@pytest.mark.parametrize(("title", "fields"), [("Tasks", TASK_FIELDS), ("Runs", RUN_FIELDS)])
def test_the_tables_are_complete(title: str, fields: Mapping[str, Field]) -> None:
    assert table(title) == known(fields)


def test_the_table_of_the_audit_trail_is_complete() -> None:
    rows = (DOCS / "audit.md").read_text().split("| field | operators | |\n|---|---|---|\n", 1)[1].split("\n\n", 1)[0]
    found = {match[1]: re.findall(r"`([^`]+)`", match[2]) for match in ROW.finditer(rows)}
    assert found == known(AUDIT_FIELDS)
