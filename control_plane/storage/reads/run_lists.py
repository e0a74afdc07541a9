"""Lists of runs: of what they are filtered by, that which few runs have is looked up, however many runs there are.

A planner cannot know how many runs have the tag that somebody asks for. So it is not left to choose: each list walks
one index whose entries lie in the order of the list, and everything else is asked of the runs found there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, or_, select, text, union_all

from control_plane.domain.filter_fields import RUN_FIELDS
from control_plane.domain.filters import EVERYTHING, All, Comparison, Filter, Not, Operator, Some
from control_plane.domain.ids import PrincipalId, ProjectId, ScheduleId, TaskId
from control_plane.domain.names import is_id
from control_plane.domain.pages import Page
from control_plane.domain.reason import Reason
from control_plane.domain.run import Run, RunState
from control_plane.storage.filters import RUN_LEAVES, aside, condition
from control_plane.storage.paging import PageRequest, fetch_page, open_key
from control_plane.storage.rows import json_text, to_us
from control_plane.storage.shapes import RUN
from control_plane.storage.tables import ATTEMPTS, PRINCIPALS, RUN_MARKS, RUNNERS, RUNS, TASKS
from control_plane.storage.tables.runs import A_LABEL, ANY_ATTEMPT, ODD_REASON, OF_A_TASK, OF_A_TEMPLATE, VISIBLE_RUN

_RUNS: Final = select(*RUN.columns)
# Of several indexes that would do, the one with the fewest entries is walked; they are counted so far.
COUNTED: Final = 200
# An id tells when it was made, nearly: after a clock was set back ids run ahead of it, but never by a day.
SLACK_BEFORE: Final = timedelta(minutes=1)
SLACK_AFTER: Final = timedelta(days=1)

Condition = ColumnElement[bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs of a project a list shows; empty and None mean all."""

    states: tuple[RunState, ...] = ()
    task_id: TaskId | None = None
    schedule_id: ScheduleId | None = None
    created_after: datetime | None = None
    matching: Filter = EVERYTHING
    # None: whoever asks sees all; else that principal's own, and those of tasks that it sees.
    visible_to: PrincipalId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """An index that holds ids of runs in their order: all runs that something is true of, and perhaps others."""

    where: Condition
    # The id of the run, in the index's own table.
    key: ColumnElement[str] = RUNS.c.id
    # Whether runs of other projects lie in it, too.
    shared: bool = False

    def through(self, query: Select[Any]) -> Select[Any]:
        """The query, walking along this index."""
        if self.key is not RUNS.c.id:
            query = query.join(RUNS, RUNS.c.id == self.key)
        return query.where(self.where)


# One of them, or each of several and all that they give.
_Ways = tuple[_Way, ...]


def list_runs(connection: Connection, project_id: ProjectId, wanted: RunFilter, request: PageRequest) -> Page[Run]:
    """Newest first, without specs and attempts."""
    scope = (
        "runs",
        project_id,
        sorted(wanted.states),
        wanted.task_id,
        wanted.schedule_id,
        None if wanted.created_after is None else to_us(wanted.created_after),
        *(() if wanted.matching == EVERYTHING else (repr(wanted.matching),)),
    )
    key: ColumnElement[str] = RUNS.c.id
    ways = _shortest(connection, _all_ways(project_id, wanted), wanted)
    # More than one way is walked no further than a page needs, so nothing could be counted.
    if len(ways) == 1:
        key = ways[0].key
        query = ways[0].through(_columns(key).where(*_asked(project_id, wanted, key)))
    elif ways and not request.include_total_size:
        query = _RUNS.where(RUNS.c.id.in_(_newest(ways, project_id, wanted, request, json_text(scope))))
    else:
        query = _RUNS.where(RUNS.c.project_id == project_id, *_asked(project_id, wanted, key))
    return fetch_page(
        connection,
        query=query,
        key=key,
        key_of=lambda item: item.id,
        build=RUN.entity,
        request=request,
        scope=scope,
        newest_first=True,
    )


def visible_run(principal_id: PrincipalId) -> Condition:
    """By the task's key for each row that is looked at, so that nobody's many tasks make a list slow."""
    seen = exists().where(TASKS.c.id == RUNS.c.task_id, or_(TASKS.c.is_public, TASKS.c.owner == principal_id))
    return or_(RUNS.c.task_id.is_(None), aside(RUNS.c.created_by) == principal_id, seen)


def _columns(key: ColumnElement[str]) -> Select[Any]:
    """A run's columns, from the table in which `key` lies on."""
    return _RUNS if key is RUNS.c.id else _RUNS.select_from(key.table)


def _newest(ways: _Ways, project_id: ProjectId, wanted: RunFilter, request: PageRequest, scope: str) -> Select[Any]:
    """The newest ids that each way gives, as many as a page needs."""
    parts = []
    for way in ways:
        ids = way.through(select(way.key.label("id")).where(*_asked(project_id, wanted, way.key)))
        if request.page_token:
            ids = ids.where(way.key < open_key(scope, request.page_token))
        parts.append(select(ids.order_by(way.key.desc()).limit(request.size() + 1).subquery().c.id))
    return select(union_all(*parts).subquery().c.id)


# -- what is asked of each run ----------------------------------------------------------------------------------------


def _asked(project_id: ProjectId, wanted: RunFilter, key: ColumnElement[str]) -> list[Condition]:
    """Everything that a run of the list must be; no index is looked for but where the walk begins and ends."""
    found = [aside(RUNS.c.project_id) == project_id, RUNS.c.hidden_at.is_(None), *_bounds(wanted, key)]
    if wanted.matching != EVERYTHING:
        found.append(condition(wanted.matching, RUN_LEAVES))
    if wanted.visible_to is not None:
        found.append(visible_run(wanted.visible_to))
    if wanted.task_id is not None:
        found.append(aside(RUNS.c.task_id) == wanted.task_id)
    if wanted.schedule_id is not None:
        found.append(aside(RUNS.c.schedule_id) == wanted.schedule_id)
    if wanted.created_after is not None:
        found.append(RUNS.c.created_at > to_us(wanted.created_after))
    if wanted.states:
        found.append(aside(RUNS.c.state).in_([str(state) for state in sorted(set(wanted.states))]))
    return found


def _bounds(wanted: RunFilter, key: ColumnElement[str]) -> list[Condition]:
    """Where the ids must lie, by the times that are asked for."""
    found = [] if wanted.created_after is None else [key >= _id_at(wanted.created_after, -SLACK_BEFORE)]
    for part in _parts(wanted.matching):
        if not isinstance(part, Comparison) or not isinstance(part.value, datetime):
            continue
        if part.operator in (Operator.GREATER, Operator.AT_LEAST, Operator.EQUAL):
            found.append(key >= _id_at(part.value, -SLACK_BEFORE))
        if part.operator in (Operator.LESS, Operator.AT_MOST, Operator.EQUAL):
            found.append(key < _id_at(part.value, SLACK_AFTER))
    return found


def _id_at(at: datetime, slack: timedelta) -> str:
    """The smallest id (UUIDv7) of the millisecond so much later, also where no calendar has it."""
    digits = f"{max(0, to_us(at) // 1000 + slack // timedelta(milliseconds=1)):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def _parts(matching: Filter) -> tuple[Filter, ...]:
    """What must all be true."""
    if isinstance(matching, All):
        return tuple(part for each in matching.parts for part in _parts(each))
    return (matching,)


# -- along which index ------------------------------------------------------------------------------------------------


def _shortest(connection: Connection, found: Sequence[_Ways], wanted: RunFilter) -> _Ways:
    """The ways with the fewest entries; () when there are none: then the project's own index is walked."""
    if len(found) < 2:
        return found[0] if found else ()
    return min(found, key=lambda ways: sum(_entries(connection, way, wanted) for way in ways))


def _entries(connection: Connection, way: _Way, wanted: RunFilter) -> int:
    some = select(way.key.label("id")).where(way.where, *_bounds(wanted, way.key)).limit(COUNTED).subquery()
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())


def _all_ways(project_id: ProjectId, wanted: RunFilter) -> list[_Ways]:
    """One entry for each thing that is asked for and lies in an index."""
    found = [ways for part in _parts(wanted.matching) if (ways := _ways(project_id, part))]
    if wanted.task_id is not None:
        found.append((_of_task(wanted.task_id),))
    if wanted.states:
        found.append(tuple(_in_state(project_id, state) for state in sorted(set(wanted.states))))
    if any(way.shared for ways in found for way in ways):
        # Of a small project among large ones all runs are looked at sooner.
        found.append((_Way(where=and_(RUNS.c.project_id == project_id, text(f"runs.{VISIBLE_RUN}"))),))
    return found


def _ways(project_id: ProjectId, part: Filter) -> _Ways:
    """Which indexes hold all runs that a part of a filter matches; () when none does."""
    match part:
        case Comparison():
            return _of_comparison(project_id, part)
        case Not(part=Comparison() as denied):
            return _of_comparison(project_id, denied, denied=True)
        case Not():
            return ()
        case All():
            return next(filter(None, (_ways(project_id, each) for each in _parts(part))), ())
        case Some():
            each = [_ways(project_id, one) for one in part.parts]
            return tuple(way for ways in each for way in ways) if all(each) else ()


def _of_comparison(project_id: ProjectId, part: Comparison, *, denied: bool = False) -> _Ways:
    negative = denied is not (part.operator is Operator.NOT_EQUAL)
    words = RUN_FIELDS[part.field].words
    if part.field in ("state", "trigger"):
        wanted = [word for word in words if (word == part.value) is not negative]
        return tuple(_of_word(project_id, part.field, word) for word in wanted)
    if negative or part.prefix:
        return ()
    value = str(part.value)
    match part.field:
        case "reason":
            return _of_reason(project_id, value)
        case "task":
            return (_of_task(value) if is_id(value) else _of_task_name(project_id, value),)
        case "template":
            return (_of_template(value) if is_id(value) else _of_template_name(project_id, value),)
        case "creator":
            return (_of_creator(value),)
        case "runner":
            return (_of_runner(value),)
        case "tag" | "label":
            return (_of_mark(part),)
    return ()


def _of_word(project_id: ProjectId, field: str, word: str) -> _Way:
    if field == "state":
        return _in_state(project_id, word)
    return _Way(where=and_(RUNS.c.project_id == project_id, RUNS.c.trigger_type == word, text(f"runs.{VISIBLE_RUN}")))


def _in_state(project_id: ProjectId, state: str) -> _Way:
    return _Way(where=and_(RUNS.c.project_id == project_id, RUNS.c.state == str(state), text(f"runs.{VISIBLE_RUN}")))


def _of_reason(project_id: ProjectId, reason: str) -> _Ways:
    """The usual one is in no index: it does not take long to come across it."""
    if reason == Reason.EXIT_ZERO:
        return ()
    return (_Way(where=and_(RUNS.c.project_id == project_id, RUNS.c.reason == reason, text(ODD_REASON))),)


def _of_task(task_id: str) -> _Way:
    return _Way(where=and_(RUNS.c.task_id == task_id, text(OF_A_TASK)))


def _of_task_name(project_id: ProjectId, name: str) -> _Way:
    return _Way(where=and_(RUNS.c.project_id == project_id, RUNS.c.task_name == name, text(OF_A_TASK)))


def _of_template(template_id: str) -> _Way:
    return _Way(where=and_(RUNS.c.template_id == template_id, text(OF_A_TEMPLATE)))


def _of_template_name(project_id: ProjectId, name: str) -> _Way:
    return _Way(where=and_(RUNS.c.project_id == project_id, RUNS.c.template_name == name, text(OF_A_TEMPLATE)))


def _of_creator(value: str) -> _Way:
    named = select(PRINCIPALS.c.id).where(PRINCIPALS.c.name == value).scalar_subquery()
    return _Way(where=and_(RUNS.c.created_by == func.coalesce(named, value), text(f"runs.{VISIBLE_RUN}")), shared=True)


def _of_runner(value: str) -> _Way:
    """By the newest of its attempts there, so that a run comes once."""
    named = select(RUNNERS.c.id).where(or_(RUNNERS.c.id == value, RUNNERS.c.name == value)).scalar_subquery()
    later = ATTEMPTS.alias("later")
    again = exists().where(
        later.c.run_id == ATTEMPTS.c.run_id,
        later.c.runner_id == ATTEMPTS.c.runner_id,
        later.c.lease_epoch > ATTEMPTS.c.lease_epoch,
    )
    mine = and_(ATTEMPTS.c.runner_id == func.coalesce(named, value), text(f"attempts.{ANY_ATTEMPT}"), ~again)
    return _Way(where=mine, key=ATTEMPTS.c.run_id, shared=True)


def _of_mark(part: Comparison) -> _Way:
    if part.field == "label" and not part.key:
        return _Way(where=and_(RUN_MARKS.c.key == part.value, text(A_LABEL)), key=RUN_MARKS.c.run_id, shared=True)
    mark = and_(RUN_MARKS.c.key == part.key, RUN_MARKS.c.value == part.value)
    return _Way(where=mark, key=RUN_MARKS.c.run_id, shared=True)
