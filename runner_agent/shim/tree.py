"""The process tree below a subreaper: whom to signal, whom to kill, and when the kernel says that none is left.

/proc and the cookie only choose whom to kill. The proof is wait4: with every orphan re-parented to the subreaper, it
has no child exactly when the tree is empty.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

from runner_agent.shim.files import process_stat, read_kernel
from runner_agent.shim.linux import WALL
from runner_agent.shim.records import dataclass, field

COOKIE_VARIABLE = "BANKSMAN_COOKIE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaped:
    """A child that ended: one of `exit_code` and `signal` is set."""

    pid: int
    exit_code: int | None
    signal: int | None
    user_s: float
    system_s: float
    max_rss_bytes: int
    # Of block devices; what the page cache held or still holds is not in it.
    read_bytes: int = 0
    written_bytes: int = 0


@dataclass(slots=True, kw_only=True)
class Casualties:
    """Who was sent SIGKILL so far, as (pid, start time), and who could not be."""

    killed: set[tuple[int, int]] = field(default_factory=set)
    refused: set[tuple[int, int]] = field(default_factory=set)


def reap() -> Iterator[Reaped]:
    """Every child that has ended. Afterwards `has_children` is the proof."""
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG | WALL)
        except ChildProcessError:
            return
        if pid == 0:
            return
        signalled = os.WIFSIGNALED(status)
        yield Reaped(
            pid=pid,
            exit_code=None if signalled else os.waitstatus_to_exitcode(status),
            signal=os.WTERMSIG(status) if signalled else None,
            user_s=usage.ru_utime,
            system_s=usage.ru_stime,
            max_rss_bytes=usage.ru_maxrss * 1024,
            read_bytes=usage.ru_inblock * 512,
            written_bytes=usage.ru_oublock * 512,
        )


def has_children() -> bool:
    """False only if the kernel says that this process has no child, live or dead (ECHILD). Reaps nothing."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | WALL)
    except ChildProcessError:
        return False
    return True


def children(pid: int) -> list[int]:
    """The direct children of all threads of `pid`, zombies included."""
    found: list[int] = []
    try:
        threads = (str(pid),) if pid == os.getpid() else os.listdir(f"/proc/{pid}/task")  # we have one thread
        for thread in threads:
            found += map(int, read_kernel(f"/proc/{pid}/task/{thread}/children").split())
    except (FileNotFoundError, ProcessLookupError):
        if _has_children_files():
            return found
        return _children_by_scan(pid)
    return found


def _has_children_files() -> bool:
    own = os.getpid()
    return os.path.exists(f"/proc/{own}/task/{own}/children")


def _children_by_scan(parent: int) -> list[int]:
    found = []
    for pid in all_pids():
        stat = process_stat(pid)
        if stat is not None and stat.parent == parent:
            found.append(pid)
    return found


def all_pids() -> list[int]:
    """Every process that /proc shows."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def signal_tree(root: int, leader: int, number: int) -> None:
    """Send a polite signal to everything below `root`: the leader's group at once, the others one by one."""
    group_has_members = False
    others: list[int] = []
    for pid in _walk(root):
        stat = process_stat(pid)
        if stat is None or stat.is_dead:
            continue
        if stat.group == leader:
            group_has_members = True
        else:
            others.append(pid)
    if group_has_members and leader > 1:
        try:
            os.killpg(leader, number)
        except (ProcessLookupError, PermissionError):
            group_has_members = False  # it ended meanwhile, or is not ours to signal: the kill decides
    for pid in others:
        send(pid, number, None)


def _walk(root: int) -> Iterator[int]:
    waiting, seen = [root], {root}
    while waiting:
        for pid in children(waiting.pop()):
            if pid not in seen:
                seen.add(pid)
                waiting.append(pid)
                yield pid


def kill_round(root: int, casualties: Casualties, spared: frozenset[int] = frozenset()) -> None:
    """One pass of killing below `root`: each process is stopped before its children are read, then all are killed.

    Repeat it, reaping in between, until the kernel says that none is left. `spared` are children left alone.
    """
    waiting, seen = [root], {root, *spared}
    stopped: list[tuple[int, int]] = []
    while waiting:
        for pid in children(waiting.pop()):
            stat = process_stat(pid)
            if pid in seen or stat is None:
                continue
            seen.add(pid)
            waiting.append(pid)
            if not stat.is_dead:
                send(pid, signal.SIGSTOP, stat.start_time)
                stopped.append((pid, stat.start_time))
    for pid, start in stopped:
        if send(pid, signal.SIGKILL, start):
            casualties.killed.add((pid, start))
        elif process_stat(pid) is not None:
            casualties.refused.add((pid, start))


def send(pid: int, number: int, start: int | None) -> bool:
    """Send a signal, unless the process is gone or is not the one that was started at `start`. False if not sent."""
    if pid <= 1:
        return False
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        stat = process_stat(pid)
        if stat is None or (start is not None and stat.start_time != start):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(descriptor)
    return True


def kill_cookie_holders(cookie: str, casualties: Casualties) -> int:
    """SIGKILL for every process that has the attempt's cookie in its environment, wherever it is; how many had it."""
    found = 0
    for pid in cookie_holders(cookie):
        stat = process_stat(pid)
        if stat is None or not stat.is_dead:
            found += 1
            if stat is not None and send(pid, signal.SIGKILL, stat.start_time):
                casualties.killed.add((pid, stat.start_time))
    return found


def cookie_holders(cookie: str) -> Iterator[int]:
    """The processes whose environment at exec carried this cookie, this process excepted, each as soon as it is seen.

    The newest come first: of one that keeps forking, only the newest is still there when it is looked at.
    """
    needle = f"{COOKIE_VARIABLE}={cookie}".encode()
    own = os.getpid()
    for pid in sorted(all_pids(), reverse=True):
        if pid != own and needle in _environment(pid).split(b"\0"):
            yield pid


def _environment(pid: int) -> bytes:
    """What the process was executed with; of any thread, since the first may have ended. Empty if unreadable."""
    for place in (f"/proc/{pid}", *(f"/proc/{pid}/task/{thread}" for thread in _threads(pid))):
        try:
            with open(f"{place}/environ", "rb") as file:
                if data := file.read():
                    return data
        except OSError:
            continue
    return b""


def _threads(pid: int) -> Iterator[str]:
    try:
        yield from os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
