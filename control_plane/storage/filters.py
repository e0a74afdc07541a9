"""Filters as conditions of a query: every value is a bound parameter, and no condition is ever NULL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Table, and_, exists, false, not_, or_, select, true

from control_plane.domain.filters import All, Comparison, Filter, Not, Operator, Some
from control_plane.storage.rows import json_text, to_us
from control_plane.storage.tables import (
    ATTEMPTS,
    AUDIT_EVENTS,
    PRINCIPALS,
    RUN_MARKS,
    RUNNERS,
    RUNS,
    SCHEDULES,
    TASK_MARKS,
    TASKS,
    TEMPLATE_MARKS,
    TEMPLATES,
)

Condition = ColumnElement[bool]
Leaf = Callable[[Comparison], Condition]
# Behind every text that begins with a prefix: no character sorts higher.
LAST: Final = "\U0010ffff"


def condition(found: Filter, leaves: Mapping[str, Leaf]) -> Condition:
    """The filter as a condition; `leaves` say how each field is compared."""
    match found:
        case Comparison():
            return leaves[found.field](found)
        case Not():
            return not_(condition(found.part, leaves))
        case All():
            return and_(true(), *(condition(part, leaves) for part in found.parts))
        case Some():
            return or_(false(), *(condition(part, leaves) for part in found.parts))


def aside(column: Column[str]) -> ColumnElement[str]:
    """The same text, but no index is looked for: what a list is walked by is chosen elsewhere."""
    return column.concat("")


def _negated(comparison: Comparison, equal: Condition) -> Condition:
    return not_(equal) if comparison.operator is Operator.NOT_EQUAL else equal


def _text(column: ColumnElement[str]) -> Leaf:
    def leaf(comparison: Comparison) -> Condition:
        value = comparison.value
        if comparison.prefix:
            return _negated(comparison, and_(column >= value, column < f"{value}{LAST}"))
        return _negated(comparison, and_(column.is_not(None), column == value))

    return leaf


def _flag(truth: Condition) -> Leaf:
    def leaf(comparison: Comparison) -> Condition:
        wanted = comparison.value is (comparison.operator is Operator.EQUAL)
        return truth if wanted else not_(truth)

    return leaf


def _time(column: Column[Any]) -> Leaf:
    def leaf(comparison: Comparison) -> Condition:
        if not isinstance(comparison.value, datetime):
            raise TypeError(f"{comparison.field} is compared with {comparison.value!r}")
        at = to_us(comparison.value)
        match comparison.operator:
            case Operator.EQUAL | Operator.NOT_EQUAL:
                return _negated(comparison, and_(column.is_not(None), column == at))
            case Operator.LESS:
                found = column < at
            case Operator.AT_MOST:
                found = column <= at
            case Operator.GREATER:
                found = column > at
            case _:
                found = column >= at
        return and_(column.is_not(None), found)

    return leaf


def _marks(marks: Table, owner: Column[Any], of: Column[Any]) -> Leaf:
    """Tags and labels lie in a table of their own: tags under an empty key."""

    def leaf(comparison: Comparison) -> Condition:
        if comparison.field == "label" and not comparison.key:
            found = and_(marks.c.key == comparison.value, marks.c.key != "")
        else:
            found = and_(marks.c.key == comparison.key, marks.c.value == comparison.value)
        return _negated(comparison, of.in_(select(owner).where(found)))

    return leaf


def _run_marks(comparison: Comparison) -> Condition:
    """As `_marks`, asked of each run that is looked at: a tag may be on a million runs."""
    mark = RUN_MARKS.alias("mark")
    marked = exists().where(mark.c.run_id == RUNS.c.id).correlate(RUNS)
    if comparison.field == "label" and not comparison.key:
        found = marked.where(mark.c.key == comparison.value, mark.c.key != "")
    else:
        found = marked.where(mark.c.key == comparison.key, mark.c.value == comparison.value)
    return _negated(comparison, found)


def _principal(column: ColumnElement[str]) -> Leaf:
    def leaf(comparison: Comparison) -> Condition:
        named = select(PRINCIPALS.c.id).where(PRINCIPALS.c.name == comparison.value)
        return _negated(comparison, or_(column == comparison.value, column.in_(named)))

    return leaf


def _actor(comparison: Comparison) -> Condition:
    """By id, or by the name that it had then."""
    found = or_(AUDIT_EVENTS.c.principal_id == comparison.value, AUDIT_EVENTS.c.principal == comparison.value)
    return _negated(comparison, found)


def _resource(comparison: Comparison) -> Condition:
    """`kind/id`, or an id alone: they stand as JSON texts in a list."""
    text = json_text(comparison.value)
    listed = AUDIT_EVENTS.c.resources
    found = or_(listed.contains(text, autoescape=True), listed.contains(f"/{text[1:]}", autoescape=True))
    return _negated(comparison, found)


def _task_of_run(comparison: Comparison) -> Condition:
    found = or_(aside(RUNS.c.task_id) == comparison.value, aside(RUNS.c.task_name) == comparison.value)
    return _negated(comparison, and_(RUNS.c.task_id.is_not(None), found))


def _template_of(table: Table) -> Leaf:
    """By id, or by the name that it had then: it may be gone."""

    def leaf(comparison: Comparison) -> Condition:
        template_id, name = aside(table.c.template_id), aside(table.c.template_name)
        found = or_(template_id == comparison.value, name == comparison.value)
        return _negated(comparison, and_(table.c.template_id.is_not(None), found))

    return leaf


def _runner_of_run(comparison: Comparison) -> Condition:
    """Any of its attempts."""
    named = select(RUNNERS.c.id).where(or_(RUNNERS.c.id == comparison.value, RUNNERS.c.name == comparison.value))
    tried = ATTEMPTS.alias("tried")
    found = exists().where(tried.c.run_id == RUNS.c.id, aside(tried.c.runner_id).in_(named)).correlate(RUNS)
    return _negated(comparison, found)


# Asked of one run: none of these makes a database look for an index.
RUN_LEAVES: Final[Mapping[str, Leaf]] = {
    "state": _text(aside(RUNS.c.state)),
    "task": _task_of_run,
    "template": _template_of(RUNS),
    "tag": _run_marks,
    "label": _run_marks,
    "runner": _runner_of_run,
    "creator": _principal(aside(RUNS.c.created_by)),
    "trigger": _text(aside(RUNS.c.trigger_type)),
    "created_at": _time(RUNS.c.created_at),
    "reason": _text(aside(RUNS.c.reason)),
}
TASK_LEAVES: Final[Mapping[str, Leaf]] = {
    "name": _text(TASKS.c.name),
    "tag": _marks(TASK_MARKS, TASK_MARKS.c.task_id, TASKS.c.id),
    "label": _marks(TASK_MARKS, TASK_MARKS.c.task_id, TASKS.c.id),
    "owner": _principal(TASKS.c.owner),
    "active": _flag(TASKS.c.active == true()),
    "public": _flag(TASKS.c.is_public == true()),
    "template": _template_of(TASKS),
    "scheduled": _flag(exists().where(SCHEDULES.c.task_id == TASKS.c.id)),
    "created_at": _time(TASKS.c.created_at),
    "updated_at": _time(TASKS.c.updated_at),
    "deleted_at": _time(TASKS.c.deleted_at),
}
TEMPLATE_LEAVES: Final[Mapping[str, Leaf]] = {
    "name": _text(TEMPLATES.c.name),
    "tag": _marks(TEMPLATE_MARKS, TEMPLATE_MARKS.c.template_id, TEMPLATES.c.id),
    "label": _marks(TEMPLATE_MARKS, TEMPLATE_MARKS.c.template_id, TEMPLATES.c.id),
    "owner": _principal(TEMPLATES.c.owner),
    "public": _flag(TEMPLATES.c.is_public == true()),
    "created_at": _time(TEMPLATES.c.created_at),
    "updated_at": _time(TEMPLATES.c.updated_at),
}
AUDIT_LEAVES: Final[Mapping[str, Leaf]] = {
    "principal": _actor,
    "method": _text(AUDIT_EVENTS.c.method),
    "resource": _resource,
    "peer": _text(AUDIT_EVENTS.c.peer),
    "request": _text(AUDIT_EVENTS.c.request_id),
    "code": _text(AUDIT_EVENTS.c.code),
    "at": _time(AUDIT_EVENTS.c.at),
}
