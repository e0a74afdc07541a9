"""From a fork of the shim to the step's own program: everything between fork and exec."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
from dataclasses import dataclass
from typing import NoReturn

from runner_agent.shim.linux import die_with_parent
from runner_agent.shim.messages import StepStart

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MAX_REPORT_BYTES = 4096
ABANDONED = 125


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildEnds:
    """The descriptors that the child keeps until exec. `barrier` gives one byte to go, or an end to leave."""

    stdin: int
    stdout: int
    stderr: int
    barrier: int
    status: int
    lock: int


class SpawnFailure(Exception):
    """Why the child could not become the program; `message` is for people."""

    def __init__(self, *, errno: int, message: str) -> None:
        super().__init__(message)
        self.errno = errno
        self.message = message


def become_program(step: StepStart, env: dict[str, str], ends: ChildEnds, shim_pid: int, oom_score: str) -> NoReturn:
    """Never returns: executes the step, or reports why not on the status pipe and exits."""
    try:
        os.close(ends.lock)  # a lock outlives its owner in every copy
        os.setsid()
        die_with_parent()
        if os.getppid() != shim_pid or os.read(ends.barrier, 1) == b"":
            os._exit(ABANDONED)
        _keep_only_streams(ends)
        _reset_process(step, oom_score)
        _enter(step.cwd)
        _execute(step.argv, env)
    except SpawnFailure as failure:
        _report(ends.status, failure)
    except OSError as error:
        _report(ends.status, SpawnFailure(errno=error.errno or 0, message=f"the step could not be set up: {error}"))
    except (ValueError, UnicodeError) as error:
        _report(ends.status, SpawnFailure(errno=errno.EINVAL, message=f"the step cannot be executed: {error}"))
    finally:
        os._exit(127)


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
    os.closerange(3, ends.status)
    os.closerange(ends.status + 1, 1 << 20)


def _reset_process(step: StepStart, oom_score: str) -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_DFL)
        except OSError:
            continue  # those that the C library keeps for itself
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    for name, soft, hard in step.rlimits:
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (soft, hard))
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(oom_score)
    except OSError:
        return  # only a preference


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
