"""Who is told of what: one delivery for each chosen event and target, and when it is tried again."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from control_plane.domain.case import Case
from control_plane.domain.history import TERMINAL_EVENT_TYPES, RunEventRecord, RunEventType
from control_plane.domain.ids import DeliveryId, PrincipalId, ProjectId, RunId, ScheduleId, TaskId
from control_plane.domain.run import Run
from control_plane.domain.schedule import Schedule
from control_plane.domain.task import NotificationEvent, NotificationSettings, Task

# After this long nobody is told any more, unless somebody asks for it.
TRIED_FOR_S = 86_400.0
# What the first wait is multiplied with, attempt by attempt; the last one repeats.
BACK_OFF = (1.0, 6.0, 24.0, 120.0, 360.0, 720.0, 1_440.0, 2_880.0)
# So much of a back-off is chance, so that what failed together does not come back together.
JITTER = 0.2
ERROR_CHARACTERS = 500


class DeliveryState(StrEnum):
    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    # Not tried again by itself: its time is over, or the receiver is gone for good.
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message for one target, as stored. The id is the same at every attempt: receivers know repeats by it."""

    id: DeliveryId
    project_id: ProjectId
    created_by: PrincipalId
    created_at: datetime
    event: NotificationEvent
    # Empty for a run that was made of a template.
    task_id: TaskId
    task_name: str
    run_id: RunId | None = None
    schedule_id: ScheduleId | None = None
    # As in the task's settings when it happened; the secret's value is looked up at each attempt.
    webhook_url: str = ""
    secret_ref: str = ""
    # Where it goes, so that a slow receiver holds up only what is for itself.
    target: str
    payload: str
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    # None: it is not tried again.
    next_attempt_at: datetime | None = None
    expires_at: datetime
    last_attempt_at: datetime | None = None
    delivered_at: datetime | None = None
    # HTTP status of the last answer; None: there was none.
    response_status: int | None = None
    # Why the last attempt failed; never what the receiver said.
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one attempt ended. `final`: trying again is of no use."""

    ok: bool
    status: int | None = None
    error: str = ""
    final: bool = False


def event_type(event: NotificationEvent) -> str:
    """Its name in a message: run.finished, schedule.paused."""
    if event is NotificationEvent.SCHEDULE_PAUSED:
        return "schedule.paused"
    return f"run.{event.lower()}"


def of_run(before: Run | None, case: Case) -> tuple[Delivery, ...]:
    """What a move of a run is told to whom, by its task's settings as they are now. `before` None: it was born."""
    if not case.notifications or not case.events:
        return ()
    found = []
    for record in case.events:
        for event in _events(before, record):
            for index, each in enumerate(case.notifications):
                if event in each.events:
                    found.append(_of_run(case.run, event, record, each, index))
    return tuple(found)


def of_pause(schedule: Schedule, task: Task, at: datetime) -> tuple[Delivery, ...]:
    """What a pause of a schedule is told to whom."""
    event = NotificationEvent.SCHEDULE_PAUSED
    data = {
        "schedule": {"id": schedule.id, "name": schedule.name, "note": schedule.pause_note},
        "task": {"id": task.id, "name": task.name},
        "project_id": schedule.project_id,
    }
    return tuple(
        Delivery(
            id=_id(at, schedule.id, event, index),
            project_id=schedule.project_id,
            created_by=schedule.created_by,
            created_at=at,
            event=event,
            task_id=task.id,
            task_name=task.name,
            schedule_id=schedule.id,
            webhook_url=each.webhook_url,
            secret_ref=each.secret_ref,
            target=_target(schedule.project_id, each),
            payload=_payload(event, at, data),
            next_attempt_at=at,
            expires_at=at + timedelta(seconds=TRIED_FOR_S),
        )
        for index, each in enumerate(task.notifications)
        if event in each.events
    )


def _events(before: Run | None, record: RunEventRecord) -> Iterator[NotificationEvent]:
    kind = record.type
    if kind is RunEventType.CREATED:
        yield NotificationEvent.CREATED
    elif kind is RunEventType.STARTED and (before is None or before.started_at is None):
        yield NotificationEvent.STARTED
    elif kind is RunEventType.SETTLED:
        yield NotificationEvent.SETTLED
    elif kind in TERMINAL_EVENT_TYPES:
        yield NotificationEvent.FINISHED
        if kind in (RunEventType.FAILED, RunEventType.TIMED_OUT, RunEventType.EXPIRED):
            yield NotificationEvent.FAILED
        elif kind is RunEventType.CANCELLED:
            yield NotificationEvent.CANCELLED
        elif kind is RunEventType.LOST:
            yield NotificationEvent.LOST


def _of_run(
    run: Run, event: NotificationEvent, record: RunEventRecord, settings: NotificationSettings, index: int
) -> Delivery:
    return Delivery(
        id=_id(record.at, run.id, event, index),
        project_id=run.project_id,
        created_by=run.created_by,
        created_at=record.at,
        event=event,
        task_id=run.task_id or TaskId(""),
        task_name=run.task_name or run.template_name,
        run_id=run.id,
        webhook_url=settings.webhook_url,
        secret_ref=settings.secret_ref,
        target=_target(run.project_id, settings),
        payload=_payload(event, record.at, _run_data(run)),
        next_attempt_at=record.at,
        expires_at=record.at + timedelta(seconds=TRIED_FOR_S),
    )


def _target(project_id: ProjectId, settings: NotificationSettings) -> str:
    return f"{project_id} {settings.webhook_url or f'secret {settings.secret_ref}'}"


def _run_data(run: Run) -> Mapping[str, object]:
    """What a receiver learns: never a variable's value, nor what the run printed."""
    return {
        "run": {
            "id": run.id,
            "state": str(run.state),
            "reason": None if run.reason is None else str(run.reason),
            "title": run.options.title,
            "exit_code": run.exit_code,
            "signal": run.signal,
            "kill_confirmed": run.kill_confirmed,
            "trigger_type": str(run.trigger_type),
            "created_at": _text(run.created_at),
            "started_at": _text(run.started_at),
            "completed_at": _text(run.completed_at),
            "settled_at": _text(run.settled_at),
            "retry_count": run.retry_count,
            "labels": dict(run.options.labels),
        },
        "task": {"id": run.task_id, "name": run.task_name or run.template_name},
        "project_id": run.project_id,
    }


def _payload(event: NotificationEvent, at: datetime, data: Mapping[str, object]) -> str:
    message = {"type": event_type(event), "timestamp": _text(at), "data": data}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def _id(at: datetime, of: str, event: NotificationEvent, index: int) -> DeliveryId:
    """A UUIDv7 whose random part follows from what it is about: the same event never makes two rows."""
    digest = hashlib.sha256(f"{of} {event} {index} {at.isoformat()}".encode()).digest()
    value = int.from_bytes(digest[:16], "big") & ((1 << 80) - 1)
    value |= (int(at.timestamp() * 1_000) & ((1 << 48) - 1)) << 80
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0b11 << 62) | 0b10 << 62
    return DeliveryId(str(UUID(int=value)))


def wait_s(attempts: int, first_s: float, jitter: float) -> float:
    """How long after its n-th failed attempt a delivery waits; `jitter` in [0, 1)."""
    factor = BACK_OFF[min(attempts, len(BACK_OFF)) - 1]
    return first_s * factor * (1.0 + JITTER * (jitter - 0.5))


def headline(payload: str) -> tuple[str, str]:
    """Title and text for a channel that people read."""
    message = json.loads(payload)
    data, kind = message["data"], message["type"]
    task = data["task"]["name"]
    if "schedule" in data:
        schedule = data["schedule"]
        return f"Schedule {schedule['name']} of {task} is paused", schedule["note"]
    run = data["run"]
    words = [f"Run {run['id']}", run["state"].lower()]
    if run["reason"]:
        words.append(f"({run['reason']})")
    if run["exit_code"] is not None:
        words.append(f"with exit code {run['exit_code']}")
    return f"{task}: {kind}", " ".join(words)
