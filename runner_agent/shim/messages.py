"""What crosses the shim's sockets and what its run directory keeps: the start, the events and the exit record."""

from __future__ import annotations

from enum import StrEnum

from runner_agent.shim.records import dataclass, field


class StepKind(StrEnum):
    """Why a step runs. MAIN is the task's own program; the others prepare it or deal with what it made."""

    MAIN = "MAIN"
    CHECKOUT = "CHECKOUT"
    SETUP = "SETUP"
    VALIDATE = "VALIDATE"
    PUBLISH = "PUBLISH"


class Outcome(StrEnum):
    """How an attempt ended, as the host knows it."""

    ENDED_WELL = "ENDED_WELL"
    ENDED_BADLY = "ENDED_BADLY"
    START_FAILED = "START_FAILED"
    NOT_STARTED = "NOT_STARTED"
    SHIM_DIED = "SHIM_DIED"
    HOST_REBOOTED = "HOST_REBOOTED"


class Reason(StrEnum):
    """Why it ended so: those reasons of the contract that a host can give, or is told with a stop."""

    EXIT_ZERO = "EXIT_ZERO"
    EXIT_NONZERO = "EXIT_NONZERO"
    SIGNALLED = "SIGNALLED"
    OOM_KILLED = "OOM_KILLED"
    SPAWN_FAILED = "SPAWN_FAILED"
    CHECKOUT_FAILED = "CHECKOUT_FAILED"
    SECRET_UNAVAILABLE = "SECRET_UNAVAILABLE"
    NOT_STARTED = "NOT_STARTED"
    USER_CANCEL = "USER_CANCEL"
    SUPERSEDED = "SUPERSEDED"
    TASK_DELETED = "TASK_DELETED"
    FORCED = "FORCED"
    RUN_TIMEOUT = "RUN_TIMEOUT"
    IDLE_TIMEOUT = "IDLE_TIMEOUT"
    START_TIMEOUT = "START_TIMEOUT"
    DEADLINE_PASSED = "DEADLINE_PASSED"
    RUNNER_LOST = "RUNNER_LOST"
    RUNNER_SHUTDOWN = "RUNNER_SHUTDOWN"
    SHIM_DIED = "SHIM_DIED"
    HOST_REBOOTED = "HOST_REBOOTED"
    VALIDATION_FAILED = "VALIDATION_FAILED"


class Phase(StrEnum):
    """How far a stop has come. KILLED: SIGKILL went to what had survived; `tree_empty` tells whether it was enough."""

    RECEIVED = "RECEIVED"
    SIGNALLED = "SIGNALLED"
    KILLED = "KILLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStart:
    """One process of an attempt. `env` is complete: nothing is inherited. `argv` elements reach exec as they are.

    `timeout_s` counts from the step's exec and stops the whole attempt with RUN_TIMEOUT. A step after a failed one
    runs only if it says `always`; after a stop nothing more runs. `rlimits` is (name without RLIMIT_, soft, hard).
    """

    argv: tuple[str, ...] = field(repr=False)
    env: dict[str, str] = field(repr=False)
    cwd: str
    stdin: bytes | None = field(default=None, repr=False)
    timeout_s: float | None = None
    kind: StepKind = StepKind.MAIN
    always: bool = False
    success_exit_codes: frozenset[int] = frozenset({0})
    rlimits: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStart:
    """Everything a shim needs. Secrets (env values, stdin, masks, cookie) stay in memory: no file ever holds them.

    `run_timeout_s` counts from the exec of the first MAIN step, `start_timeout_s` from the shim's start to that exec,
    `idle_timeout_s` from the last output, progress or step start. `loss_deadline_boottime_ns` is CLOCK_BOOTTIME.
    `log_limit_bytes` bounds the log (head and last part are kept, the middle becomes a gap); `spool_quota_bytes`
    bounds what waits on disk. `masks` are secret values as they are; the shim derives their encodings.
    `result_path` is the file that the run may write its result into; `fail_on_invalid_result`: one that cannot be taken
    makes an end that was good a bad one.
    `cookie` is an unguessable value that marks the attempt's processes in their environment.
    """

    run_id: str
    epoch: int
    steps: tuple[StepStart, ...]
    cookie: str = field(repr=False)
    merge_output: bool = False
    run_timeout_s: float | None = None
    idle_timeout_s: float | None = None
    start_timeout_s: float | None = 600.0
    stop_signal: int = 15
    grace_s: float = 10.0
    loss_deadline_boottime_ns: int | None = None
    log_limit_bytes: int = 1 << 30
    spool_quota_bytes: int = 1 << 30
    masks: tuple[bytes, ...] = field(default=(), repr=False)
    result_path: str | None = None
    fail_on_invalid_result: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """How one step ended. `spawn_errno` is set when it was never executed; times are wall-clock nanoseconds."""

    index: int
    kind: StepKind = StepKind.MAIN
    exit_code: int | None = None
    signal: int | None = None
    oom_killed: bool = False
    started_at_ns: int | None = None
    ended_at_ns: int | None = None
    spawn_errno: int | None = None
    spawn_message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopMark:
    """One phase of a stop, when it was reached (wall-clock ns) and how many processes were killed up to then."""

    phase: Phase
    at_ns: int
    survivors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the tree used. `source` says how the processor time is known, the others say so of their figures.

    `cgroup` counts everything that ever ran there. `wait4` counts what was waited for: orphans too, which the shim
    adopts, but not a child whose parent ignores its children's ends; memory is then the largest single process's.
    None: not known.
    """

    source: str
    cpu_user_s: float = 0.0
    cpu_system_s: float = 0.0
    max_rss_bytes: int = 0
    max_rss_source: str = "wait4"
    read_bytes: int | None = None
    written_bytes: int | None = None
    io_source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The newest progress that the run told: `fraction` 0..1 or None, never less than before; `text` is its note.

    `at_ns` is wall clock.
    """

    fraction: float | None
    text: str
    stage: str = ""
    at_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRecord:
    """The attempt's end, written last. It answers every later question, also after the shim is gone.

    `final_offset` counts masked bytes; `gaps` are [from, to) of offset space whose bytes are not kept.
    `digest` (hex) is defined in `runner_agent.shim.digest`; None if a dead shim's log is not whole.
    `tree_empty`: the kernel said that no process of the attempt is left; `kill_confirmed` is the same word for a run
    that was stopped, and for one whose attempts all ended by themselves.
    `stopped_by` is the first stop reason; the exit code and signal are then still those of the process.
    `permanent`: it was never started, and another try cannot start it either.
    """

    run_id: str
    epoch: int
    outcome: Outcome
    reason: Reason
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    steps: tuple[StepRecord, ...] = ()
    stopped_by: Reason | None = None
    stop_marks: tuple[StopMark, ...] = ()
    survivors_killed: int = 0
    tree_empty: bool = False
    kill_confirmed: bool = False
    final_offset: int = 0
    digest: str | None = None
    gaps: tuple[tuple[int, int], ...] = ()
    usage: Usage = Usage(source="none")
    result_json: str | None = None
    started_at_ns: int | None = None
    ended_at_ns: int | None = None
    permanent: bool = False
    # Why what the run wrote as its result was not taken.
    result_error: str = ""
    progress: Progress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A step was executed (the close-on-exec pipe closed). `at_ns` is wall clock."""

    step: int
    pid: int
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnded:
    """A step's process tree is gone, or it could not be executed."""

    record: StepRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class StopPhase:
    """A stop has come to `phase`; `survivors` counts processes that had to be killed so far."""

    phase: Phase
    survivors: int
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """The spool holds (or has dropped, with a gap) every byte below `offset`. In the tail ring it is only a counter."""

    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result that the run told over BANKSMAN_SOCKET, as JSON text of at most 256 KiB; the last one counts."""

    json: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """The exit record is on disk. The shim is about to leave; this is the last event."""

    record: ExitRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ShimGone:
    """The link broke without an exit record: settle the run directory (`run_directory.settle`) to learn more."""


ShimEvent = Started | StepEnded | StopPhase | Spooled | Progress | Result | Exited | ShimGone
