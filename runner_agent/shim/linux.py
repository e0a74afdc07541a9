"""The calls of Linux that Python does not offer, and what they are for."""

from __future__ import annotations

import ctypes
import os
import signal

_libc = ctypes.CDLL(None, use_errno=True)
_libc_with_gil = ctypes.PyDLL(None, use_errno=True)
_SYS_CLONE3 = 435
_CLONE_INTO_CGROUP = 0x2_0000_0000
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
WALL = 0x40000000


def become_subreaper() -> None:
    """Orphans below this process become its children, wherever they went. Not inherited by fork. Raises OSError."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """SIGKILL for this process when its parent ends; check the parent afterwards. Raises OSError."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


class _CloneArguments(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid",
            "set_tid_size", "cgroup",
        )
    ]  # fmt: skip


def fork_into_cgroup(cgroup_fd: int) -> int:
    """Like os.fork, but the child is born in the cgroup whose directory is open. Raises OSError where that is refused.

    Moving a process later costs 10 to 20 ms (an RCU grace period). Only for a process of one thread whose child soon
    executes: the C library does not learn of this fork.
    """
    arguments = _CloneArguments(flags=_CLONE_INTO_CGROUP, exit_signal=int(signal.SIGCHLD), cgroup=cgroup_fd)
    pid = int(_libc_with_gil.syscall(_SYS_CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments)))
    if pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return pid


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
