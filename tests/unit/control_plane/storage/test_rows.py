"""Rows and entities: nothing is rounded, nothing is lost, and what has no column type is refused at import."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import NewType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Table, Text, create_engine, insert, select

from control_plane.storage import shapes
from control_plane.storage.rows import Shape, from_us, json_text, to_us

ThingId = NewType("ThingId", str)


class Colour(StrEnum):
    RED = "RED"
    BLUE = "BLUE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    name: str
    at: datetime | None = None
    colour: Colour = Colour.RED
    weight: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    id: ThingId
    count: int | None = None
    at: datetime | None = None
    colour: Colour | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    part: Part | None = None
    parts: tuple[Part, ...] = ()
    # No column: only readers fill it.
    seen: int = 0


THINGS = Table(
    "things",
    MetaData(),
    Column("id", Text),
    Column("extra", Text),
    *(Column(name, Integer) for name in ("count", "at")),
    *(Column(name, Text) for name in ("colour", "labels", "tags", "part", "parts")),
)
SHAPE = Shape(Thing, THINGS)

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
BASE = datetime(1970, 1, 1, tzinfo=UTC)
times = st.timedeltas(timedelta(0), timedelta(days=90_000)).map(lambda since: BASE + since)
finite = st.floats(allow_nan=False, allow_infinity=False)
parts = st.builds(Part, name=texts, at=st.none() | times, colour=st.sampled_from(Colour), weight=st.none() | finite)
things = st.builds(
    Thing,
    id=texts.map(ThingId),
    count=st.none() | st.integers(-(2**63), 2**63 - 1),
    at=st.none() | times,
    colour=st.none() | st.sampled_from(Colour),
    labels=st.dictionaries(texts, texts, max_size=3),
    tags=st.lists(texts, max_size=3).map(tuple),
    part=st.none() | parts,
    parts=st.lists(parts, max_size=3).map(tuple),
)

ENGINE = create_engine("sqlite://")
with ENGINE.begin() as made:
    THINGS.metadata.create_all(made)


@settings(deadline=None)
@given(things)
def test_what_goes_in_comes_out(thing: Thing) -> None:
    with ENGINE.begin() as connection:
        connection.execute(insert(THINGS), SHAPE.values(thing, extra="x"))
        row = connection.execute(select(*SHAPE.columns, THINGS.c.extra)).one()
        connection.execute(THINGS.delete())
    assert SHAPE.entity(row) == thing
    assert SHAPE.entity(row, seen=7) == replace(thing, seen=7)
    assert row[-1] == "x"


@settings(deadline=None)
@given(things, things)
def test_changes_are_the_columns_that_differ(old: Thing, new: Thing) -> None:
    changes = SHAPE.changes(old, new)
    stored = SHAPE.values(old) | changes
    assert stored == SHAPE.values(new)
    assert SHAPE.changes(old, replace(old, seen=old.seen + 1)) == {}
    assert set(changes) == {name for name in SHAPE.values(old) if getattr(old, name) != getattr(new, name)}


@settings(deadline=None)
@given(times)
def test_times_are_exact_to_the_microsecond(at: datetime) -> None:
    assert from_us(to_us(at)) == at
    elsewhere = at.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert to_us(elsewhere) == to_us(at)
    assert from_us(to_us(elsewhere)).tzinfo is UTC


def test_a_time_without_zone_is_a_bug() -> None:
    with pytest.raises(TypeError):
        to_us(BASE.replace(tzinfo=None))


def test_a_field_younger_than_the_row_keeps_its_default() -> None:
    old = {**SHAPE.values(Thing(id=ThingId("a"))), "part": json_text({"name": "n"}), "parts": '[{"name":"m"}]'}
    with ENGINE.begin() as connection:
        connection.execute(insert(THINGS), old)
        row = connection.execute(select(*SHAPE.columns)).one()
        connection.execute(THINGS.delete())
    loaded = SHAPE.entity(row)
    assert loaded.part == Part(name="n")
    assert loaded.parts == (Part(name="m"),)


def test_equal_values_give_equal_texts() -> None:
    assert json_text({"b": 1, "a": "ä"}) == json_text({"a": "ä", "b": 1}) == '{"a":"ä","b":1}'
    assert json.loads(json_text("ä\u2028")) == "ä\u2028"


def test_what_has_no_column_type_is_refused() -> None:
    @dataclass(frozen=True)
    class Odd:
        id: int | str

    with pytest.raises((TypeError, NameError)):
        Shape(Odd, THINGS)


def test_fields_without_columns_are_known() -> None:
    """A new field of an entity needs a column, or a place in this list."""
    without = {
        "RUN": {"attempts", "waiting_because", "remedies"},
        "ATTEMPT": {"runner_name", "disconnected_since", "connectivity", "given_up_at", "host_message"},
        "RUNNER": {
            *("held_run_ids", "slots_used", "connected_since"),
            *("attempts", "unknown_run_ids", "clone_alarms"),
        },
        "SCHEDULE": {"task_name"},
        "TOKEN": {"principal_name"},
    }
    for name, shape in vars(shapes).items():
        if not isinstance(shape, Shape):
            continue
        fields = set(shape.entity_fields)
        columns = {column.name for column in shape.columns}
        assert fields - columns == without.get(name, set()), name
