"""From a fork of the shim to the step's own program: everything between fork and exec."""

from __future__ import annotations

import errno
import marshal
import os
import resource
import stat

from runner_agent.shim.files import write_kernel
from runner_agent.shim.linux import die_with_parent
from runner_agent.shim.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MAX_REPORT_BYTES = 4096
ABANDONED = 125


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildEnds:
    """The descriptors of the child. `barrier` gives an instruction, then one byte to go; an end there means: leave."""

    stdin: int
    stdout: int
    stderr: int
    barrier: int
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What the waiting child shall become."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    rlimits: tuple[tuple[str, int, int], ...]
    has_stdin: bool
    merge_output: bool

    def encode(self) -> bytes:
        """For the barrier pipe, from a process to its own fork."""
        payload = marshal.dumps((self.argv, self.env, self.cwd, self.rlimits, self.has_stdin, self.merge_output))
        return len(payload).to_bytes(4, "little") + payload


class SpawnFailure(Exception):
    """Why the child could not become the program; `message` is for people."""

    def __init__(self, *, errno: int, message: str) -> None:
        super().__init__(message)
        self.errno = errno
        self.message = message


def wait_and_become(ends: ChildEnds, shim_pid: int, oom_score: str) -> NoReturn:
    """In the child, never returns: waits for the instruction and the go, then executes, or reports why not."""
    try:
        _keep_only_streams(ends)  # a lock outlives its owner in every copy: close it before anything else
        os.setsid()
        die_with_parent()
        _reset_process(oom_score)
        instruction = _receive(ends.barrier) if os.getppid() == shim_pid else None
        if instruction is None:
            os._exit(ABANDONED)
        _arrange(instruction)
        if os.read(ends.barrier, 1) == b"":
            os._exit(ABANDONED)
        _limit(instruction)
        _enter(instruction.cwd)
        _execute(instruction.argv, instruction.env)
    except SpawnFailure as failure:
        _report(ends.status, failure)
    except OSError as error:
        _report(ends.status, SpawnFailure(errno=error.errno or 0, message=f"the step could not be set up: {error}"))
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not pass for the program's own exit
        _report(ends.status, SpawnFailure(errno=errno.EINVAL, message=f"the step cannot be executed: {error}"))
    finally:
        os._exit(127)


def _receive(barrier: int) -> Instruction | None:
    """The instruction; None if the other end has closed."""
    head = _read_exactly(barrier, 4)
    payload = None if head is None else _read_exactly(barrier, int.from_bytes(head, "little"))
    if payload is None:
        return None
    argv, env, cwd, rlimits, has_stdin, merge_output = marshal.loads(payload)  # from our own process
    return Instruction(argv=argv, env=env, cwd=cwd, rlimits=rlimits, has_stdin=has_stdin, merge_output=merge_output)


def _read_exactly(descriptor: int, size: int) -> bytes | None:
    parts = []
    while size:
        part = os.read(descriptor, min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _report(status: int, failure: SpawnFailure) -> None:
    text = f"{failure.errno}\n{failure.message}".encode("utf-8", "replace")
    os.write(status, text[:_MAX_REPORT_BYTES])


def parse_report(data: bytes) -> SpawnFailure:
    """What `_report` wrote."""
    number, _, message = data.decode("utf-8", "replace").partition("\n")
    return SpawnFailure(errno=int(number) if number.isdecimal() else 0, message=message)


def _keep_only_streams(ends: ChildEnds) -> None:
    os.dup2(ends.stdin, 0)
    os.dup2(ends.stdout, 1)
    os.dup2(ends.stderr, 2)
    low, high = sorted((ends.barrier, ends.status))
    os.closerange(3, low)
    os.closerange(low + 1, high)
    os.closerange(high + 1, 1 << 20)


def _reset_process(oom_score: str) -> None:
    # Signals need nothing here: the fork server has handlers for them, which exec takes away, and blocks none.
    os.umask(0o022)
    if not oom_score:
        return
    try:
        write_kernel("/proc/self/oom_score_adj", oom_score)
    except OSError:
        return  # it stays spared, as we are


def _arrange(instruction: Instruction) -> None:
    if not instruction.has_stdin:
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(null, 0)
        os.close(null)
    if instruction.merge_output:
        os.dup2(1, 2)


def _limit(instruction: Instruction) -> None:
    for name, soft, hard in instruction.rlimits:
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (soft, hard))


def _enter(directory: str) -> None:
    try:
        os.chdir(directory)
    except OSError as error:
        raise SpawnFailure(
            errno=error.errno or 0, message=f"the working directory {directory!r} cannot be entered: {error.strerror}"
        ) from None


def _execute(argv: tuple[str, ...], env: dict[str, str]) -> NoReturn:
    program = argv[0]
    if "/" in program:
        _try(program, argv, env, program)
        raise _describe(errno.ENOENT, program, program)
    refused: SpawnFailure | None = None
    for directory in env.get("PATH", _DEFAULT_PATH).split(os.pathsep):
        path = os.path.join(directory or ".", program)
        try:
            _try(path, argv, env, program)
        except SpawnFailure as failure:
            if failure.errno != errno.EACCES:
                raise
            if os.path.lexists(path):  # else it is the directory that may not be searched
                refused = refused or failure
    raise refused or SpawnFailure(errno=errno.ENOENT, message=f"program {program!r} was not found in PATH")


def _try(path: str, argv: tuple[str, ...], env: dict[str, str], program: str) -> None:
    """Execute `path`; returns if there is no such file. Raises SpawnFailure for everything else."""
    try:
        os.execve(path, argv, env)
    except (FileNotFoundError, NotADirectoryError) as error:
        if not os.path.isfile(path):
            return
        raise _describe(error.errno or 0, path, program) from None
    except OSError as error:
        raise _describe(error.errno or 0, path, program) from None


def _describe(number: int, path: str, program: str) -> SpawnFailure:
    match number:
        case errno.ENOENT if os.path.isfile(path):
            text = f"program {program!r} cannot run: the interpreter that it names was not found{_interpreter(path)}"
        case errno.ENOENT:
            text = f"program {program!r} was not found"
        case errno.EACCES if os.path.isdir(path):
            text = f"program {program!r} is a directory"
        case errno.EACCES if _lacks_execute_bit(path):
            text = f"program {program!r} is not executable: {path} has no execute permission"
        case errno.EACCES:
            text = f"program {program!r} may not be executed by this user"
        case errno.ENOEXEC:
            text = f"program {program!r} is not in a format that this host can run (a script needs a #! line)"
        case errno.E2BIG:
            text = f"the arguments and environment of {program!r} are too long for this host"
        case _:
            text = f"program {program!r} cannot be executed: {os.strerror(number)}"
    return SpawnFailure(errno=number, message=text)


def _lacks_execute_bit(path: str) -> bool:
    try:
        return not os.stat(path).st_mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    except OSError:
        return False


def _interpreter(path: str) -> str:
    try:
        with open(path, "rb") as file:
            line = file.readline(200)
    except OSError:
        return ""
    return f" ({line[2:].strip().decode(errors='replace')})" if line.startswith(b"#!") else ""
