"""A schedule: when a task runs by itself, and which instants its rule has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from itertools import islice
from typing import Protocol

from control_plane.domain import cron
from control_plane.domain.ids import PrincipalId, ProjectId, RunId, ScheduleId, TaskId
from control_plane.domain.reason import Reason
from control_plane.domain.run import RunState

PREVIEW_DEFAULT = 10
PREVIEW_LARGEST = 100


class OverlapPolicy(StrEnum):
    """What happens when an instant comes while a run of the schedule is active."""

    SKIP = "SKIP"
    ALLOW = "ALLOW"
    # The new run waits for its turn; with QUEUE_ONE at most one does.
    QUEUE_ONE = "QUEUE_ONE"
    QUEUE_ALL = "QUEUE_ALL"
    # The active ones are cancelled, and the new run waits until they are over.
    CANCEL_RUNNING = "CANCEL_RUNNING"

    @property
    def one_by_one(self) -> bool:
        """A run of the schedule starts only when the earlier ones are over."""
        return self in (OverlapPolicy.QUEUE_ONE, OverlapPolicy.QUEUE_ALL, OverlapPolicy.CANCEL_RUNNING)


class CatchUpPolicy(StrEnum):
    """What happens to instants that were missed: nothing, one run for all of them, or one for each of the newest."""

    SKIP = "SKIP"
    ONE = "ONE"
    ALL = "ALL"


class FiringOrigin(StrEnum):
    """Why a schedule fired: part of the key that lets nothing fire twice."""

    SCHEDULE = "SCHEDULE"
    MANUAL = "MANUAL"
    BACKFILL = "BACKFILL"


class Timed(Protocol):
    """The part of a schedule that says when. Exactly one of cron (not empty), every_s and once is set."""

    @property
    def cron(self) -> str: ...
    @property
    def every_s(self) -> float | None: ...
    @property
    def once(self) -> datetime | None: ...
    @property
    def time_zone(self) -> str: ...
    @property
    def start_at(self) -> datetime | None: ...
    @property
    def end_at(self) -> datetime | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleDraft:
    """A schedule as a caller describes it. `task` is an id or a name."""

    name: str = ""
    task: str = ""
    cron: str = ""
    every_s: float | None = None
    once: datetime | None = None
    time_zone: str = "UTC"
    overlap: OverlapPolicy = OverlapPolicy.SKIP
    catch_up: CatchUpPolicy = CatchUpPolicy.SKIP
    start_at: datetime | None = None
    end_at: datetime | None = None
    jitter_s: float = 0.0
    # With ALL; 0: as many as may be.
    max_catch_up: int = 0
    # 0: never.
    pause_after_failures: int = 0
    variables: Mapping[str, str] = field(default_factory=dict)
    paused: bool = False
    pause_note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One schedule as stored. `next_fire_at` is None when it is paused or has no further instant.

    It says when the schedule fires: its jitter later than the instant that is meant.
    """

    id: ScheduleId
    project_id: ProjectId
    name: str
    task_id: TaskId
    task_name: str = ""
    cron: str = ""
    every_s: float | None = None
    once: datetime | None = None
    time_zone: str = "UTC"
    overlap: OverlapPolicy = OverlapPolicy.SKIP
    catch_up: CatchUpPolicy = CatchUpPolicy.SKIP
    start_at: datetime | None = None
    end_at: datetime | None = None
    jitter_s: float = 0.0
    # With ALL; 0: as many as may be.
    max_catch_up: int = 0
    # 0: never.
    pause_after_failures: int = 0
    variables: Mapping[str, str] = field(default_factory=dict)
    paused: bool = False
    pause_note: str = ""
    # How often the wall clock was set back so far that `every` began to count anew, a microsecond later each time.
    phase_us: int = 0
    # Runs in a row that did not succeed.
    failures: int = 0
    # Which instants up to here have fired is no longer known.
    forgotten_to: datetime | None = None
    next_fire_at: datetime | None = None
    last_fired_at: datetime | None = None
    last_run_id: RunId | None = None
    created_by: PrincipalId
    created_at: datetime
    updated_at: datetime
    etag: str

    @property
    def anchor(self) -> datetime:
        """What `every` counts from."""
        return (self.start_at or self.created_at) + timedelta(microseconds=self.phase_us)

    @property
    def offset(self) -> timedelta:
        """How late it always is: a part of its jitter that only its id decides."""
        jitter_us = round(self.jitter_s * 1_000_000)
        return timedelta(microseconds=int.from_bytes(sha256(self.id.encode()).digest()[:8]) % (jitter_us + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """One instant of a schedule that was taken: by a run, or `missed` instants from it on were passed over."""

    origin: FiringOrigin
    scheduled_time: datetime
    run_id: RunId | None
    missed: int
    created_at: datetime
    # Of its run as it is now; None where there is none, or none any more.
    run_state: RunState | None = None
    run_reason: Reason | None = None


def fire_times(timed: Timed, *, anchor: datetime, after: datetime) -> Iterator[datetime]:
    """The instants (UTC) behind `after` and inside the window, in order.

    `every` counts from `anchor`, back too: the window's start, which is its first instant, or the schedule's birth.
    """
    start_at, end_at = timed.start_at, timed.end_at
    if start_at is not None:
        after = max(after, start_at - timedelta(microseconds=1))
    for instant in _unbounded(timed, anchor, after):
        if end_at is not None and instant >= end_at:
            return
        yield instant


def _unbounded(timed: Timed, anchor: datetime, after: datetime) -> Iterator[datetime]:
    if timed.cron:
        yield from cron.fire_times(timed.cron, after, timed.time_zone)
    elif timed.every_s is not None:
        step = timedelta(seconds=timed.every_s)
        number = (after - anchor) // step + 1
        while True:
            yield (anchor + number * step).astimezone(UTC)
            number += 1
    elif timed.once is not None and timed.once > after:
        yield timed.once.astimezone(UTC)


def instants(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """The instants of a stored schedule behind `after`."""
    return fire_times(schedule, anchor=schedule.anchor, after=after)


def next_fire_at(schedule: Schedule, after: datetime) -> datetime | None:
    """When it fires first behind `after`, whether it is paused or not; None when it never does."""
    return next(coming(schedule, after), None)


def coming(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """When it fires behind `after`: its instants, each late by its jitter. None of them is older than itself."""
    offset = schedule.offset
    oldest = after - offset
    if after >= schedule.created_at:
        oldest = max(oldest, schedule.created_at)
    for instant in instants(schedule, oldest):
        yield instant + offset


def preview(timed: Timed, *, anchor: datetime, after: datetime, count: int = PREVIEW_DEFAULT) -> tuple[datetime, ...]:
    """The next `count` instants behind `after`."""
    return tuple(islice(fire_times(timed, anchor=anchor, after=after), count))
