"""How many runs there may be at once: limits as a spec or a project says them, and the places that a run takes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from control_plane.domain import limits
from control_plane.domain.copies import replace
from control_plane.domain.errors import FieldViolation
from control_plane.domain.ids import ProjectId, RunId, TaskId
from control_plane.domain.names import check_text, violation
from control_plane.domain.variables import placeholders, render


class OnLimit(StrEnum):
    """What becomes of a run that finds no place."""

    QUEUE = "QUEUE"
    REJECT = "REJECT"
    CANCEL_RUNNING = "CANCEL_RUNNING"
    DROP_NEW = "DROP_NEW"


class LimitScope(StrEnum):
    """Whose runs count."""

    TASK = "TASK"
    PROJECT = "PROJECT"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyLimit:
    """At most `limit` runs at once, of those with the same key; 0 is no limit, and only a project may say so."""

    limit: int = 0
    key: str = ""
    scope: LimitScope | None = None
    on_limit: OnLimit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a run takes under one limit. `group` says whose runs count together, `name` is for people."""

    group: str
    limit: int
    on_limit: OnLimit
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """How many places of a group are taken, and the oldest run that holds one."""

    count: int
    run_id: RunId | None = None


def check_concurrency(found: tuple[ConcurrencyLimit, ...], path: str) -> Iterator[FieldViolation]:
    """What a spec may say."""
    if len(found) > limits.CONCURRENCY_LIMITS:
        yield violation(path, f"at most {limits.CONCURRENCY_LIMITS}, are {len(found)}")
    seen: set[tuple[LimitScope, str]] = set()
    for index, each in enumerate(found[: limits.CONCURRENCY_LIMITS]):
        here = f"{path}[{index}]"
        if not 1 <= each.limit <= limits.CONCURRENCY_LARGEST:
            yield violation(f"{here}.limit", f"must be 1 to {limits.CONCURRENCY_LARGEST}, is {each.limit}")
        yield from check_text(each.key, f"{here}.key", limits.CONCURRENCY_KEY_BYTES)
        if not each.key.isprintable():
            yield violation(f"{here}.key", "must hold printable characters only")
        same = (each.scope or LimitScope.TASK, each.key)
        if same in seen:
            yield violation(here, "the same scope and key are given twice")
        seen.add(same)


def check_project_limit(found: ConcurrencyLimit | None, path: str) -> Iterator[FieldViolation]:
    """What a project may say: a limit over all of its runs, or none."""
    if found is None:
        return
    if not 1 <= found.limit <= limits.CONCURRENCY_LARGEST:
        yield violation(f"{path}.limit", f"must be 1 to {limits.CONCURRENCY_LARGEST}, is {found.limit}")
    if found.key:
        yield violation(f"{path}.key", "is not for a project: its limit counts all runs")
    if found.scope is not None:
        yield violation(f"{path}.scope", "is not for a project: its limit counts all runs")


def check_keys(
    found: tuple[ConcurrencyLimit, ...],
    path: str,
    *,
    values: Mapping[str, str],
    sensitive: Collection[str],
    of_task: bool,
) -> Iterator[FieldViolation]:
    """What the limits of one run come to: a key is shown, so that nothing sensitive may stand in it."""
    for index, each in enumerate(found):
        here = f"{path}[{index}]"
        if not of_task and each.scope is not LimitScope.PROJECT:
            yield violation(f"{here}.scope", "must be LIMIT_SCOPE_PROJECT for a run without a task")
        for name in dict.fromkeys(placeholders(each.key)):
            if name in sensitive:
                yield violation(f"{here}.key", f"is shown and must not hold the sensitive variable {name!r}")
        size = len(render(each.key, values).encode())
        if size > limits.CONCURRENCY_RENDERED_BYTES:
            most = limits.CONCURRENCY_RENDERED_BYTES
            yield violation(f"{here}.key", f"must have at most {most} bytes with its variables replaced, has {size}")


def with_limit_defaults(found: ConcurrencyLimit) -> ConcurrencyLimit:
    return replace(found, scope=found.scope or LimitScope.TASK, on_limit=found.on_limit or OnLimit.QUEUE)


def places_of(
    found: tuple[ConcurrencyLimit, ...],
    project_id: ProjectId,
    task_id: TaskId | None,
    task_name: str,
    values: Mapping[str, str] | None,
) -> tuple[Place, ...]:
    """The places that a run needs. `values` None: nothing is replaced. Of two on the same runs the lower counts."""
    places: dict[str, Place] = {}
    for each in found:
        key = each.key if values is None else render(each.key, values)
        by_task = each.scope is not LimitScope.PROJECT
        if by_task and task_id is None:
            continue
        group = f"task:{task_id}" if by_task else f"project:{project_id}"
        name = f"task {task_name}" if by_task else "the project"
        if key:
            group, name = f"{group}:{key}", f"key {key} of {name}"
        place = Place(group=group, limit=each.limit, on_limit=each.on_limit or OnLimit.QUEUE, name=name)
        if group not in places or places[group].limit > place.limit:
            places[group] = place
    return tuple(places.values())


def project_place(project_id: ProjectId, found: ConcurrencyLimit | None) -> Place | None:
    """The place that every run of a limited project needs."""
    if found is None or not found.limit:
        return None
    on_limit = found.on_limit or OnLimit.QUEUE
    return Place(group=f"all:{project_id}", limit=found.limit, on_limit=on_limit, name="the whole project")


def lane_of(project_id: ProjectId, places: tuple[Place, ...]) -> str:
    """In which queue a run waits: lanes take turns. Each key has one, a project's other runs have one together."""
    if not places:
        return project_id
    keyed = [place for place in places if place.group.count(":") > 1]
    return f"{project_id}/{(keyed or list(places))[0].group}"


def waits_for(place: Place, taken: Taken) -> str:
    """Why a run waits, as a sentence."""
    held = "" if taken.run_id is None else f": run {taken.run_id} holds {'it' if place.limit == 1 else 'a place'}"
    return f"The limit of {place.limit} for {place.name} is reached{held}."


class PlacesTaken:
    """The places of one round, as they are taken."""

    def __init__(self, taken: Mapping[str, Taken]) -> None:
        self._taken = dict(taken)

    def shut(self, places: tuple[Place, ...]) -> str:
        """Why a limit keeps a run waiting; empty when there is a place under each."""
        for place in places:
            taken = self._taken.get(place.group, _NONE)
            if taken.count >= place.limit:
                return waits_for(place, taken)
        return ""

    def take(self, places: tuple[Place, ...], run_id: RunId) -> None:
        for place in places:
            taken = self._taken.get(place.group, _NONE)
            self._taken[place.group] = Taken(count=taken.count + 1, run_id=taken.run_id or run_id)


_NONE = Taken(count=0)
