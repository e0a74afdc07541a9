"""What a shim puts into its run directory, and what it checks of what it is told.

No file holds argv, environment, stdin or masks, for any of them may carry a secret. `identity` (and `identity.N` for
step N) says who the child is: the cookie in it only marks processes, it opens nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
from collections.abc import Collection

from runner_agent.shim import files, protocol
from runner_agent.shim.codec import BadMessage, JsonObject, from_json, to_json
from runner_agent.shim.messages import AttemptStart, ExitRecord, Progress, Reason, Usage
from runner_agent.shim.orders import Verdict
from runner_agent.shim.records import dataclass
from runner_agent.shim.states import NS, StopRequested

FORMAT_VERSION = 1
MAX_STEPS = 16
EXIT_RETRIES = 60
SHORT_SOCKETS = "s"
_FALLBACK = "/tmp/bnk-"
RUNS = "runs"
IDENTITY = "identity"
# A run directory with one of these was used for an attempt that was started.
MARKS_OF_USE = frozenset({IDENTITY, "exit"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRequest:
    """One more secret to mask."""

    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a shim stands: its state directory (absolute), its run directory's name, and what it inherits."""

    state_directory: str
    name: str
    shim_pid: int
    shim_start_time: int | None
    guard_pid: int
    guard_start_time: int | None
    boot_id: str
    oom_score: str
    use_cgroups: bool

    @property
    def short_name(self) -> str:
        """A short name for what must have one, unique to this run directory."""
        return short_name(self.state_directory, self.name)

    def make_run_socket_path(self) -> str:
        """Where the run finds its socket: short enough for a unix address, in a directory that is ours alone."""
        directory, name = f"{self.state_directory}/{SHORT_SOCKETS}", self.short_name
        if protocol.fits_in_address(f"{directory}/{name}"):
            if not os.access(directory, os.F_OK):
                os.makedirs(directory, mode=0o700, exist_ok=True)
        else:
            directory = f"{_FALLBACK}{os.geteuid()}-{name}"
            remove_socket(f"{directory}/{name}")  # what a killed shim of this very attempt has left
            os.mkdir(directory, 0o700)
        return f"{directory}/{name}"

    def identity(
        self, start: AttemptStart, pid: int, start_time: int | None, *, cgroup: str | None, run_socket: str | None
    ) -> bytes:
        """The identity of a waiting child, as JSON bytes."""
        return files.encode_json(
            {
                "version": FORMAT_VERSION,
                "run_id": start.run_id,
                "epoch": start.epoch,
                "pid": pid,
                "start_time": start_time,
                "boot_id": self.boot_id,
                "cookie": start.cookie,
                "cgroup": cgroup,
                "run_socket": run_socket,
                "shim_pid": self.shim_pid,
                "shim_start_time": self.shim_start_time,
                "guard_pid": self.guard_pid,
                "guard_start_time": self.guard_start_time,
            }
        )


def short_name(state_directory: str, name: str) -> str:
    """Twelve hex digits that name a run directory of this host."""
    return hashlib.sha256(f"{state_directory}/{name}".encode("utf-8", "surrogateescape")).hexdigest()[:12]


def remove_sockets(state_directory: str, name: str, run_directory: str) -> None:
    """Remove what a shim has bound, whoever bound it. The control socket goes last: without it nothing is left."""
    short = short_name(state_directory, name)
    remove_socket(f"{state_directory}/{SHORT_SOCKETS}/{short}")
    remove_socket(f"{_FALLBACK}{os.geteuid()}-{short}/{short}")
    remove_socket(f"{run_directory}/{protocol.CONTROL_SOCKET}")


def remove_socket(path: str) -> None:
    """Nobody can be reached there any more. A directory that was made for it goes too."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    finally:
        if path.startswith(_FALLBACK):
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(path))


def identity_name(step: int) -> str:
    """The file that holds the identity of a step's child."""
    return IDENTITY if step == 0 else f"{IDENTITY}.{step}"


def was_used(directory: str, names: Collection[str] | None = None) -> bool:
    """Whether an attempt was ever started in this run directory. `names` are in it, if they are known."""
    if names is None:
        names = os.listdir(directory)
    return not MARKS_OF_USE.isdisjoint(names) or has_unnamed_identity(directory, names)


def has_unnamed_identity(directory: str, names: Collection[str] | None = None) -> bool:
    """Whether an identity was written that did not get its name, or has lost it in a power cut.

    An empty one is only what a shim had made ready.
    """
    unnamed = files.temporary(IDENTITY)
    if names is not None and unnamed not in names:
        return False
    try:
        return os.stat(os.path.join(directory, unnamed)).st_size > 0
    except FileNotFoundError:
        return False


def exit_record(
    verdict: Verdict,
    start: AttemptStart,
    *,
    offset: int,
    digest: str | None,
    gaps: tuple[tuple[int, int], ...],
    usage: Usage,
    result: str | None,
    result_error: str = "",
    progress: Progress | None = None,
) -> ExitRecord:
    """The whole record: the decisions' verdict and the log's figures."""
    return ExitRecord(
        run_id=start.run_id,
        epoch=start.epoch,
        outcome=verdict.outcome,
        reason=verdict.reason,
        message=verdict.message,
        exit_code=verdict.exit_code,
        signal=verdict.signal,
        steps=verdict.steps,
        stopped_by=verdict.stopped_by,
        stop_marks=verdict.stop_marks,
        survivors_killed=verdict.survivors_killed,
        tree_empty=verdict.tree_empty,
        kill_confirmed=verdict.tree_empty,
        final_offset=offset,
        digest=digest,
        gaps=gaps,
        usage=usage,
        result_json=result,
        result_error=result_error,
        progress=progress,
        started_at_ns=verdict.started_at_ns,
        ended_at_ns=verdict.ended_at_ns,
    )


def encode_record(record: ExitRecord) -> bytes:
    """The exit record as it stands on disk."""
    return files.encode_json({"version": FORMAT_VERSION, "record": to_json(record)})


def store_exit(data: bytes) -> None:
    """Keep trying for a minute: the record answers every later question. Raises OSError then."""
    for _ in range(EXIT_RETRIES):
        try:
            files.write_exit(".", data)
            return
        except OSError as error:
            os.write(2, f"shim: the exit record cannot be stored: {error}\n".encode())
            if files.working_directory_is_gone():
                return  # nobody will ever look there: whoever listens now is the only one to be told
            signal.sigtimedwait((), 1.0)
    raise OSError("the exit record could not be stored")


def decode_record(value: JsonObject) -> ExitRecord:
    """The exit record of a file. Raises BadMessage."""
    if value.get("version") != FORMAT_VERSION:
        raise BadMessage("an exit record of another version")
    return from_json(ExitRecord, value.get("record"))


def parse_stop(frame: JsonObject) -> StopRequested:
    """A stop request. Raises BadMessage."""
    reason, number, grace_s = frame.get("reason"), frame.get("signal"), frame.get("grace_s")
    if reason not in Reason._value2member_map_:
        raise BadMessage("unknown stop reason")
    if not isinstance(number, int) or not 1 <= number <= 64:
        raise BadMessage("signal is not a signal number")
    if isinstance(grace_s, bool) or not isinstance(grace_s, int | float) or not 0 <= grace_s <= 86_400:
        raise BadMessage("grace_s is not a duration of at most a day")
    return StopRequested(reason=Reason(str(reason)), signal=number, grace_ns=int(grace_s * NS))


def check_start(start: AttemptStart) -> None:
    """What the shim relies on. The agent has checked the rest. Raises BadMessage."""
    if not 1 <= len(start.steps) <= MAX_STEPS:
        raise BadMessage(f"an attempt has 1 to {MAX_STEPS} steps")
    if any(not step.argv or not step.argv[0] for step in start.steps):
        raise BadMessage("a step has no program")
    if not start.cookie or not 1 <= start.stop_signal <= 64 or start.grace_s < 0:
        raise BadMessage("cookie, stop_signal or grace_s is missing or wrong")
