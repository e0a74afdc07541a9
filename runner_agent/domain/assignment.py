"""What an Assignment says: the whole spec of one attempt, with the secret values that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from runner_agent.domain.ids import AttemptKey

DEFAULT_GRACE_S = 10.0
DEFAULT_START_TIMEOUT_S = 600.0
DEFAULT_STOP_SIGNAL = "SIGTERM"
DEFAULT_LOG_LIMIT_BYTES = 1 << 30


class StepKind(StrEnum):
    """Why a step runs."""

    UNSPECIFIED = "UNSPECIFIED"
    MAIN = "MAIN"
    CHECKOUT = "CHECKOUT"
    SETUP = "SETUP"
    VALIDATE = "VALIDATE"
    PUBLISH = "PUBLISH"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvVar:
    """One environment variable: `value`, or the name of a secret whose value came with the Assignment."""

    name: str
    value: str = field(default="", repr=False)
    secret_ref: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program: `argv`, or `script` with the interpreter that receives it as a file."""

    argv: tuple[str, ...] = field(default=(), repr=False)
    script: str = field(default="", repr=False)
    interpreter: tuple[str, ...] = ()
    working_directory: str = ""
    stdin: bytes = field(default=b"", repr=False)
    success_exit_codes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One process of the attempt. Its own env wins over the spec's."""

    kind: StepKind = StepKind.MAIN
    name: str = ""
    command: Command = Command()
    env: tuple[EnvVar, ...] = ()
    timeout_s: float | None = None
    always: bool = False


class WorkspaceRemoval(StrEnum):
    """When the attempt's directory goes with it."""

    ALWAYS = "ALWAYS"
    ON_SUCCESS = "ON_SUCCESS"
    NEVER = "NEVER"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactPattern:
    """Files to be uploaded, relative to the workspace."""

    path: str
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Run this now. `lost_after_s` None means that the attempt never stops itself for silence.

    `secrets` maps a secret_ref to its value; `env` are variables that the server sets. Both stay in memory.
    """

    key: AttemptKey
    steps: tuple[Step, ...]
    env: tuple[EnvVar, ...] = ()
    slots: int = 1
    timeout_s: float | None = None
    idle_timeout_s: float | None = None
    start_timeout_s: float = DEFAULT_START_TIMEOUT_S
    grace_s: float = DEFAULT_GRACE_S
    stop_signal: str = DEFAULT_STOP_SIGNAL
    log_limit_bytes: int = DEFAULT_LOG_LIMIT_BYTES
    merge_output: bool = False
    fail_on_invalid_result: bool = False
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    server_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    lost_after_s: float | None = None
    project_name: str = ""
    task_name: str = ""
    attempt_number: int = 1
    artifacts: tuple[ArtifactPattern, ...] = ()
    workspace_removal: WorkspaceRemoval = WorkspaceRemoval.ALWAYS
    workspace_keep_s: float = 0.0
