"""What to run and under which rules. A spec is frozen into every run that is made from it. Durations are seconds."""

from dataclasses import dataclass, field
from enum import StrEnum

from control_plane.domain import limits
from control_plane.domain.coding_agent import CodingAgent
from control_plane.domain.concurrency import ConcurrencyLimit
from control_plane.domain.workspace import ArtifactPattern, WorkspacePolicy


class StepKind(StrEnum):
    MAIN = "MAIN"
    CHECKOUT = "CHECKOUT"
    SETUP = "SETUP"
    VALIDATE = "VALIDATE"
    PUBLISH = "PUBLISH"


class SelectorOperator(StrEnum):
    IN = "IN"
    NOT_IN = "NOT_IN"
    EXISTS = "EXISTS"


class OnLost(StrEnum):
    FAIL = "FAIL"
    RETRY = "RETRY"


RETRY_ON_FAILED = "failed"
RETRY_ON_TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvVar:
    """Exactly one of value and secret_ref is not None."""

    name: str
    value: str | None = None
    secret_ref: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Exactly one of argv and script is given."""

    argv: tuple[str, ...] = ()
    script: str = ""
    interpreter: tuple[str, ...] = ()
    working_directory: str = ""
    stdin: bytes = b""
    success_exit_codes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    command: Command
    kind: StepKind = StepKind.MAIN
    name: str = ""
    env: tuple[EnvVar, ...] = ()
    timeout_s: float | None = None
    always: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    key: str
    operator: SelectorOperator
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often an end is tried again. 0 and None mean: not said, take the default."""

    max_attempts: int = 0
    backoff_s: float | None = None
    backoff_cap_s: float | None = None
    retry_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPolicy:
    """What becomes of an attempt whose runner is silent. With `never`, lost_after_s is None."""

    on_lost: OnLost | None = None
    lost_after_s: float | None = None
    never: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """Steps, or a coding agent."""

    steps: tuple[Step, ...]
    env: tuple[EnvVar, ...] = ()
    selectors: tuple[Selector, ...] = ()
    slots: int = 0
    timeout_s: float | None = None
    idle_timeout_s: float | None = None
    start_timeout_s: float | None = None
    queue_timeout_s: float | None = None
    grace_s: float | None = None
    stop_signal: str = ""
    log_limit_bytes: int = 0
    loss: LossPolicy = field(default_factory=LossPolicy)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    merge_output: bool = False
    priority: int = 0
    runner: str = ""
    fail_on_invalid_result: bool = False
    coding_agent: CodingAgent | None = None
    concurrency: tuple[ConcurrencyLimit, ...] = ()
    artifacts: tuple[ArtifactPattern, ...] = ()
    # None: it is removed with the attempt.
    workspace: WorkspacePolicy | None = None

    def secret_names(self) -> frozenset[str]:
        """Every secret that the spec's env, or a step's, refers to."""
        variables = [*self.env, *(variable for step in self.steps for variable in step.env)]
        return frozenset(variable.secret_ref for variable in variables if variable.secret_ref is not None)

    @property
    def grace(self) -> float:
        """Seconds from the signal to the kill."""
        return limits.DEFAULT_GRACE_S if self.grace_s is None else self.grace_s
