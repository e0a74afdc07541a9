"""A run: one request to run something, and the table of its states."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from control_plane.domain.attempt import Attempt
from control_plane.domain.concurrency import Place
from control_plane.domain.ids import PrincipalId, ProjectId, RunId, ScheduleId, TaskId, TemplateId
from control_plane.domain.machine import terminal
from control_plane.domain.progress import Progress
from control_plane.domain.reason import Reason
from control_plane.domain.spec import EnvVar, LossPolicy, RetryPolicy, Selector
from control_plane.domain.task import ReportFormat
from control_plane.domain.variables import VariableValue


class RunState(StrEnum):
    QUEUED = "QUEUED"
    ASSIGNED = "ASSIGNED"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    LOST = "LOST"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    SKIPPED = "SKIPPED"


class RunEvent(StrEnum):
    """What may happen to a run."""

    OFFERED = "OFFERED"
    RETURNED = "RETURNED"
    STARTED = "STARTED"
    SUCCEEDED = "SUCCEEDED"
    WILL_RETRY = "WILL_RETRY"
    GAVE_UP = "GAVE_UP"
    TIMED_OUT = "TIMED_OUT"
    LOST = "LOST"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    ENDED = "ENDED"
    QUEUE_TIMED_OUT = "QUEUE_TIMED_OUT"


_S = RunState
_E = RunEvent
RUN_TABLE: Mapping[RunState, Mapping[RunEvent, RunState]] = {
    _S.QUEUED: {_E.OFFERED: _S.ASSIGNED, _E.CANCEL_REQUESTED: _S.CANCELLED, _E.QUEUE_TIMED_OUT: _S.EXPIRED},
    _S.ASSIGNED: {
        _E.STARTED: _S.RUNNING,
        _E.RETURNED: _S.QUEUED,
        _E.WILL_RETRY: _S.QUEUED,
        _E.GAVE_UP: _S.FAILED,
        _E.TIMED_OUT: _S.TIMED_OUT,
        _E.LOST: _S.LOST,
        _E.CANCEL_REQUESTED: _S.CANCELLING,
    },
    _S.RUNNING: {
        _E.SUCCEEDED: _S.SUCCEEDED,
        _E.WILL_RETRY: _S.QUEUED,
        _E.GAVE_UP: _S.FAILED,
        _E.TIMED_OUT: _S.TIMED_OUT,
        _E.LOST: _S.LOST,
        _E.CANCEL_REQUESTED: _S.CANCELLING,
    },
    _S.CANCELLING: {_E.CANCEL_REQUESTED: _S.CANCELLING, _E.ENDED: _S.CANCELLED},
    _S.SUCCEEDED: {},
    _S.FAILED: {},
    _S.TIMED_OUT: {},
    _S.LOST: {},
    _S.CANCELLED: {},
    _S.EXPIRED: {},
    _S.SKIPPED: {},
}
RUN_TERMINAL = terminal(RUN_TABLE)
RUN_ACTIVE = frozenset(RunState) - RUN_TERMINAL


class TriggerType(StrEnum):
    MANUAL = "MANUAL"
    API = "API"
    SCHEDULED = "SCHEDULED"
    RETRY = "RETRY"
    BACKFILL = "BACKFILL"
    WEBHOOK = "WEBHOOK"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    rel: str
    title: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """What an operator can do about a run that waits for a host: a whole command line, and what it does."""

    command: str
    effect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOverrides:
    """Parts of a task's spec that one run does otherwise; what is None or empty stays as the task has it."""

    timeout_s: float | None = None
    idle_timeout_s: float | None = None
    start_timeout_s: float | None = None
    queue_timeout_s: float | None = None
    grace_s: float | None = None
    env: tuple[EnvVar, ...] = ()
    selectors: tuple[Selector, ...] = ()
    runner: str = ""
    slots: int | None = None
    retry: RetryPolicy | None = None
    loss: LossPolicy | None = None
    working_directory: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a caller says about one run beside its spec. Variables are taken out of it before it is stored."""

    title: str = ""
    trigger_metadata: Mapping[str, str] = field(default_factory=dict)
    priority: int | None = None
    not_before: datetime | None = None
    deadline: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    sensitive_variables: tuple[str, ...] = ()
    overrides: RunOverrides | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run as stored. The spec itself is stored once by SHA-256 and loaded apart.

    `attempts`, `waiting_because` and `remedies` are filled by readers that want them; they are not columns.
    """

    id: RunId
    project_id: ProjectId
    state: RunState
    spec_sha256: str
    trigger_type: TriggerType
    created_by: PrincipalId
    created_at: datetime
    # None: its spec is no template, and nothing in it is replaced.
    variables: tuple[VariableValue, ...] | None = None
    # Its task's, when it was made.
    tags: tuple[str, ...] = ()
    task_id: TaskId | None = None
    task_name: str = ""
    # The template that it, or its task, was made of.
    template_id: TemplateId | None = None
    template_name: str = ""
    template_version: int = 0
    reason: Reason | None = None
    error_message: str = ""
    options: RunOptions = field(default_factory=RunOptions)
    priority: int = 0
    # Latest of the caller's not_before and a retry's back-off: not offered before.
    not_before: datetime | None = None
    # not_before (else the birth) plus the queue timeout; None: it may wait for ever, or was assigned once.
    queue_expires_at: datetime | None = None
    # 0 puts a returned run before its equals.
    queue_rank: int = 1
    # In which of the queues that take turns it waits.
    lane: str = ""
    # Formats of a report that is still to be made; since when only the report keeps the run from being settled.
    report_formats: tuple[ReportFormat, ...] = ()
    report_due_at: datetime | None = None
    # What it takes under the limits of its spec.
    places: tuple[Place, ...] = ()
    deadline: datetime | None = None
    # Earliest instant at which a wall clock concerns the run as it stands (queue timeout, deadline); None: none does.
    due_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    settled_at: datetime | None = None
    lease_epoch: int = 0
    exit_code: int | None = None
    signal: int | None = None
    kill_confirmed: bool = False
    # Set by the first cancel request and never again.
    cancel_requested_at: datetime | None = None
    cancel_reason: Reason | None = None
    cancelled_by: str = ""
    cancel_note: str = ""
    retry_of: RunId | None = None
    # How many runs of the chain of retries by hand came before it.
    retries_by_hand: int = 0
    root_run_id: RunId | None = None
    # Attempts that count against retry.max_attempts and are over.
    tries: int = 0
    retry_count: int = 0
    # Rejections, NOT_STARTED and losses in all; at most limits.INFRA_RETRIES before the run gives up.
    infra_retries: int = 0
    rejected_count: int = 0
    # Never removed by age.
    pinned: bool = False
    schedule_id: ScheduleId | None = None
    scheduled_time: datetime | None = None
    result_data: str = ""
    # Why what it wrote as its result was not taken.
    result_error: str = ""
    # Of its newest attempt.
    progress: Progress | None = None
    # Of coding agents; None: unknown, which is not 0.
    total_messages: int | None = None
    total_tool_calls: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    attempts: tuple[Attempt, ...] = ()
    waiting_because: str = ""
    # What frees it while its host is away.
    remedies: tuple[Remedy, ...] = ()

    @property
    def is_active(self) -> bool:
        return self.state in RUN_ACTIVE
