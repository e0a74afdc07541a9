"""Trees that do not want to end: every process of one holds the tree's lock, so that the test can tell what is left.

A program of the standard library: `python -I -S escape_artists.py SHAPE LOCK ARRIVED stay|leave`. When the whole tree
stands it writes `ready` to standard output and to the fifo ARRIVED; then the leader stays, or leaves with exit code 0.
The lock is one open file description that every process inherits and never closes.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

MAX_BRED = 300
PR_SET_CHILD_SUBREAPER = 36
SYS_EXIT = {"x86_64": 60, "aarch64": 93}


class Tree:
    """What the processes of one tree share: the lock, and a pipe on which each says that it stands."""

    def __init__(self, lock: str) -> None:
        self.lock = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        os.set_inheritable(self.lock, True)
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._stands, self.says = os.pipe()

    def born(self) -> None:
        os.write(self.says, b"x")

    def await_births(self, count: int) -> None:
        while count:
            count -= len(os.read(self._stands, count))


def deaf(but_not: int = 0) -> None:
    """Ignore every signal that can be ignored."""
    for number in range(1, 65):
        if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, 32, 33, but_not):
            signal.signal(number, signal.SIG_IGN)


def state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def stay() -> NoReturn:
    while True:
        time.sleep(3600)


def child(tree: Tree, life: Callable[[], object]) -> None:
    """A child that lives this life, and is awaited."""
    if os.fork() == 0:
        life()
        tree.born()
        stay()
    tree.await_births(1)


def ignores_signals(tree: Tree) -> None:
    child(tree, deaf)


def double_forked(tree: Tree) -> None:
    """A daemon: another session, another parent."""
    if os.fork() == 0:
        os.setsid()
        child(tree, deaf)
        os._exit(0)
    os.wait()


def new_session(tree: Tree) -> None:
    child(tree, lambda: (deaf(), os.setsid()))


def cleared_environment(tree: Tree) -> None:
    """Nothing of ours in its environment, and orphaned."""
    again = (
        "import os,signal,sys,time\nsignal.signal(15,signal.SIG_IGN)\nos.setsid()\nos.write(int(sys.argv[1]),b'x')\n"
    )
    os.set_inheritable(tree.says, True)
    if os.fork() == 0:
        if os.fork() == 0:
            argv = [sys.executable, "-I", "-S", "-c", again + "time.sleep(3600)", str(tree.says), sys.argv[2]]
            os.execve(sys.executable, argv, {})
        os._exit(0)
    os.wait()
    tree.await_births(1)


def breeds(tree: Tree) -> None:
    """Forks without end (but for a bound): each process replaces itself again and again, in sessions of its own."""
    started = time.monotonic()

    def breed() -> NoReturn:
        deaf()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        tree.born()
        for _ in range(MAX_BRED):
            if os.fork() != 0:
                os._exit(0)
            os.setsid()
            time.sleep(0.002 if time.monotonic() - started < 5 else 0.1)
        stay()

    for _ in range(3):
        if os.fork() == 0:
            breed()
    tree.await_births(3)


def closes_streams(tree: Tree) -> None:
    child(tree, lambda: (deaf(), os.closerange(0, 3)))


def holds_the_pipe(tree: Tree) -> None:
    """The leader obeys; what it leaves has the streams open in another session."""
    child(tree, lambda: (os.setsid(), deaf()))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def leader_dies_first(tree: Tree) -> None:
    """Grandchildren in three sessions; the leader and the children between are gone at once."""
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            child(tree, deaf)
            os._exit(0)
        os.wait()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def stops_itself(tree: Tree) -> None:
    if (pid := os.fork()) == 0:
        deaf()
        os.kill(os.getpid(), signal.SIGSTOP)
        stay()
    os.waitpid(pid, os.WUNTRACED)


def disguised(tree: Tree) -> None:
    """Another name, another working directory."""
    again = (
        "import os,signal,sys,time\nsignal.signal(15,signal.SIG_IGN)\nos.write(int(sys.argv[1]),b'x')\ntime.sleep(3600)"
    )
    os.set_inheritable(tree.says, True)
    if os.fork() == 0:
        os.chdir("/")
        os.setsid()
        argv = ["[kworker/0:1]", "-I", "-S", "-c", again, str(tree.says), sys.argv[2]]
        os.execve(sys.executable, argv, dict(os.environ))
    tree.await_births(1)


def headless(tree: Tree) -> None:
    """A process whose first thread has ended: it looks like a zombie, and lives."""

    def without_head() -> None:
        deaf()
        os.setsid()
        first = os.getpid()

        def go_on() -> None:
            while state_of(first) != "Z":
                time.sleep(0.001)
            tree.born()
            stay()

        threading.Thread(target=go_on).start()
        ctypes.CDLL(None).syscall(SYS_EXIT[os.uname().machine], 0)

    if os.fork() == 0:
        without_head()
    tree.await_births(1)


def stopped_in_a_stopped_group(tree: Tree) -> None:
    """A child that stops whoever it finds in its group, itself included, again when it is continued."""

    def stubborn() -> None:
        deaf(signal.SIGCONT)
        os.setsid()
        signal.signal(signal.SIGCONT, lambda *_: os.kill(0, signal.SIGSTOP))

    child(tree, stubborn)


def reaps_its_own(tree: Tree) -> None:
    """A child that is a subreaper itself, with a daemon below it."""

    def adopt() -> None:
        deaf()
        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        double_forked(tree)

    child(tree, adopt)


SHAPES: dict[str, Callable[[Tree], None]] = {
    shape.__name__: shape
    for shape in (
        ignores_signals,
        double_forked,
        new_session,
        cleared_environment,
        breeds,
        closes_streams,
        holds_the_pipe,
        leader_dies_first,
        stops_itself,
        disguised,
        headless,
        stopped_in_a_stopped_group,
        reaps_its_own,
    )
}
# These leave a leader that obeys: it is gone with the first signal.
OBEDIENT_LEADERS = frozenset({"holds_the_pipe", "leader_dies_first"})


def main() -> NoReturn:
    """Build the tree, say so, stay or leave."""
    shape, lock, arrived, then = sys.argv[1:5]
    tree = Tree(lock)
    if shape not in OBEDIENT_LEADERS:
        deaf()
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    SHAPES[shape](tree)
    os.write(1, b"ready\n")
    with open(arrived, "wb", 0) as file:
        file.write(f"{shape}\n".encode())
    if then == "leave":
        os._exit(0)
    stay()


if __name__ == "__main__":
    main()
