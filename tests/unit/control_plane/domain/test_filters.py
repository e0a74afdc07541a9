"""The filter language: what it accepts, how it binds, and where it says that something is wrong."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.domain import limits
from control_plane.domain.errors import InvalidArgument
from control_plane.domain.filter_fields import RUN_FIELDS, TASK_FIELDS
from control_plane.domain.filters import EVERYTHING, All, Comparison, Filter, Not, Operator, Some, parse_filter


def runs(text: str) -> Filter:
    return parse_filter(text, RUN_FIELDS)


def tasks(text: str) -> Filter:
    return parse_filter(text, TASK_FIELDS)


def tag(value: str) -> Comparison:
    return Comparison(field="tag", operator=Operator.HAS, value=value)


def test_an_empty_filter_is_everything() -> None:
    assert runs("") == runs("  \n") == EVERYTHING


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tag:a", tag("a")),
        (' tag : "a b" ', tag("a b")),
        ("tag:a AND tag:b", All((tag("a"), tag("b")))),
        ("tag:a tag:b", All((tag("a"), tag("b")))),
        ("tag:a OR tag:b", Some((tag("a"), tag("b")))),
        ("tag:a AND tag:b OR tag:c", All((tag("a"), Some((tag("b"), tag("c")))))),
        ("(tag:a AND tag:b) OR tag:c", Some((All((tag("a"), tag("b"))), tag("c")))),
        ("NOT tag:a", Not(tag("a"))),
        ("-tag:a", Not(tag("a"))),
        ("NOT (tag:a OR tag:b)", Not(Some((tag("a"), tag("b"))))),
        (r'tag:"say \"hi\" \\ now"', tag('say "hi" \\ now')),
        ("tag:'it is'", tag("it is")),
        ("tag:AND", tag("AND")),
        ("tag:a*", tag("a*")),
    ],
)
def test_how_it_binds(text: str, expected: Filter) -> None:
    assert runs(text) == expected


def test_values_have_their_fields_type() -> None:
    assert runs("state = failed") == Comparison(field="state", operator=Operator.EQUAL, value="FAILED")
    assert runs('created_at >= "2030-01-02T03:04:05+02:00"') == Comparison(
        field="created_at", operator=Operator.AT_LEAST, value=datetime(2030, 1, 2, 1, 4, 5, tzinfo=UTC)
    )
    assert runs("created_at < 2030-01-02T03:04:05Z") == Comparison(
        field="created_at", operator=Operator.LESS, value=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    )
    assert tasks("active = true") == Comparison(field="active", operator=Operator.EQUAL, value=True)
    assert tasks("name = night*") == Comparison(field="name", operator=Operator.EQUAL, value="night", prefix=True)
    assert tasks(r'name = "a\*"') == Comparison(field="name", operator=Operator.EQUAL, value="a*")
    assert tasks("label.team = core") == Comparison(field="label", operator=Operator.EQUAL, value="core", key="team")
    assert tasks('label."a/b" != x') == Comparison(field="label", operator=Operator.NOT_EQUAL, value="x", key="a/b")
    assert tasks("label : team") == Comparison(field="label", operator=Operator.HAS, value="team")


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("stat = FAILED", 1, "no field 'stat'"),
        ("state = BROKEN", 9, "must be one of QUEUED"),
        ("state", 6, "is expected"),
        ("state =", 8, "a value is expected"),
        ("state == QUEUED", 8, "'=' begins no value, but in quotes: operators are = != < <= > >= :"),
        ("tag : =x", 7, "'=' begins no value, but in quotes: operators are = != < <= > >= :"),
        ("state > FAILED", 7, "compared with = != only"),
        ("(state = FAILED", 16, "closing parenthesis"),
        ("state = FAILED)", 15, "behind the filter's end"),
        ("state = FAILED AND", 19, "a field is expected"),
        ("created_at > yesterday", 14, "must be a time"),
        ("created_at : 2030-01-01", 12, "compared with"),
        ("label = x", 7, "compared with : only"),
        ("label.a : x", 9, "compared with = != only"),
        ("state.x = y", 6, "has no parts"),
        ('tag : "open', 7, "a value is expected"),
        ("tag : a, b", 8, "a field is expected"),
        ("NOT " * 17 + "tag:a", 64, "nested deeper"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, position: int, says: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        runs(text)
    (violation,) = caught.value.violations
    assert violation.field == "filter"
    assert violation.description.startswith(f"at character {position}: ")
    assert says in violation.description


def test_limits_at_the_limit_and_one_more() -> None:
    runs(" AND ".join(["tag:a"] * limits.FILTER_COMPARISONS))
    with pytest.raises(InvalidArgument, match="comparisons"):
        runs(" AND ".join(["tag:a"] * (limits.FILTER_COMPARISONS + 1)))
    runs("tag:" + "a" * (limits.FILTER_BYTES - 4))
    with pytest.raises(InvalidArgument, match="bytes"):
        runs("tag:" + "a" * (limits.FILTER_BYTES - 3))


PIECES = st.lists(
    st.sampled_from(
        [
            *("state", "tag", "label", "label.a", "created_at", "=", "!=", "<", ":", "(", ")", "AND", "OR", "NOT", "-"),
            *('"', "FAILED", "x", "2030-01-01", " ", "\\", "'", "*", ".", "\0", "é"),
        ]
    )
).map("".join)


def refusal(text: str) -> list[str]:
    """The fields that are named when the text is refused; none when it is a filter."""
    try:
        runs(text)
    except InvalidArgument as refused:
        return [violation.field for violation in refused.violations]
    return []


@given(st.one_of(st.text(), PIECES))
def test_any_text_is_a_filter_or_refused_by_name(text: str) -> None:
    assert refusal(text) in ([], ["filter"])
