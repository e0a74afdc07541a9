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


def _negated(comparison: Comparison, equal: Condition) -> Condition:
    return not_(equal) if comparison.operator is Operator.NOT_EQUAL else equal


def _text(column: Column[Any]) -> Leaf:
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


def _principal(column: Column[Any]) -> Leaf:
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
    by_id = and_(RUNS.c.task_id.is_not(None), RUNS.c.task_id == comparison.value)
    return _negated(comparison, or_(by_id, and_(RUNS.c.task_id.is_not(None), RUNS.c.task_name == comparison.value)))


def _runner_of_run(comparison: Comparison) -> Condition:
    """Any of its attempts."""
    named = select(RUNNERS.c.id).where(or_(RUNNERS.c.id == comparison.value, RUNNERS.c.name == comparison.value))
    tried = exists().where(ATTEMPTS.c.run_id == RUNS.c.id, ATTEMPTS.c.runner_id.in_(named))
    return _negated(comparison, tried)


RUN_LEAVES: Final[Mapping[str, Leaf]] = {
    "state": _text(RUNS.c.state),
    "task": _task_of_run,
    "tag": _marks(RUN_MARKS, RUN_MARKS.c.run_id, RUNS.c.id),
    "label": _marks(RUN_MARKS, RUN_MARKS.c.run_id, RUNS.c.id),
    "runner": _runner_of_run,
    "creator": _principal(RUNS.c.created_by),
    "trigger": _text(RUNS.c.trigger_type),
    "created_at": _time(RUNS.c.created_at),
    "reason": _text(RUNS.c.reason),
}
TASK_LEAVES: Final[Mapping[str, Leaf]] = {
    "name": _text(TASKS.c.name),
    "tag": _marks(TASK_MARKS, TASK_MARKS.c.task_id, TASKS.c.id),
    "label": _marks(TASK_MARKS, TASK_MARKS.c.task_id, TASKS.c.id),
    "owner": _principal(TASKS.c.owner),
    "active": _flag(TASKS.c.active == true()),
    "public": _flag(TASKS.c.is_public == true()),
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
