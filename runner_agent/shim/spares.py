"""The shims below a fork server: those at work, and those that were forked ahead and wait for an attempt."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections import deque

from runner_agent.shim import files
from runner_agent.shim.attempt_files import Place
from runner_agent.shim.linux import become_subreaper
from runner_agent.shim.serve import serve, wait_and_serve
from runner_agent.shim.starter import Starter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

MOST_SPARES = 4
BUSY_S = 1.0


class Shims:
    """Forks them. One waits ahead; more of them while starts follow one another closely, so that a burst finds them."""

    def __init__(self, state_directory: str, *, oom_score: str, use_cgroups: bool) -> None:
        self._state_directory = state_directory
        self._oom_score = oom_score
        self._use_cgroups = use_cgroups
        self._boot_id = files.boot_id()
        self._pid = os.getpid()
        self._start_time = files.start_time(self._pid)
        # Live shims by pid; a spare one's run directory is "".
        self.names: dict[int, str] = {}
        self._spares: deque[tuple[int, socket.socket]] = deque()
        self._started_s: deque[float] = deque(maxlen=MOST_SPARES)
        self._refused_s = -BUSY_S

    @property
    def at_work(self) -> bool:
        """Whether one has an attempt."""
        return len(self.names) > len(self._spares)

    @property
    def has_spares_to_dismiss(self) -> bool:
        """Whether more wait than a quiet time needs."""
        return len(self._spares) > 1

    def wants_spares(self, now_s: float) -> bool:
        """Whether some should be forked ahead: before the last one is taken, several at once.

        After a fork every page that we write to is copied: several forks in a row cost these copies once.
        """
        return not self.was_refused(now_s) and len(self._spares) < max(1, self._wanted(now_s) // 2)

    def was_refused(self, now_s: float) -> bool:
        """Whether the last try was so short a time ago that the next one has to wait."""
        return now_s - self._refused_s < BUSY_S

    def _wanted(self, now_s: float) -> int:
        return max(1, sum(now_s - started_s < BUSY_S for started_s in self._started_s))

    def start(self, connection: socket.socket, name: str, now_s: float) -> None:
        """Give the attempt to a shim that was forked ahead, or to a new one. Raises OSError."""
        self._started_s.append(now_s)
        if not self._hand_to_spare(connection, name):
            self._fork(connection, name)

    def fork_spares(self, now_s: float) -> None:
        """Fork ahead, in a quiet moment. If that fails, it is tried no more for a while; a start will say so."""
        for _ in range(self._wanted(now_s) - len(self._spares)):
            try:
                ours, theirs = socket.socketpair()
            except OSError:  # no descriptors: no reason to leave all shims without their guard
                self._refused_s = now_s
                return
            try:
                self._spares.append((self._fork(theirs, ""), ours))
            except OSError:
                ours.close()
                self._refused_s = now_s
                return
            finally:
                theirs.close()

    def dismiss_spares(self, kept: int = 0) -> None:
        """Let those go that are too many: the end of their channel makes them leave."""
        while len(self._spares) > kept:
            self._spares.popleft()[1].close()

    def ended(self, pid: int, now_s: float) -> str | None:
        """A child was waited for: the name of its run directory; None if it was no shim.

        What has ended a spare one may end the next one too (one process more than the host allows): it is a refusal.
        """
        for spare in [spare for spare in self._spares if spare[0] == pid]:
            spare[1].close()
            self._spares.remove(spare)
            self._refused_s = now_s
        return self.names.pop(pid, None)

    def _hand_to_spare(self, connection: socket.socket, name: str) -> bool:
        """Give the attempt to a shim that was forked ahead; False if there is none."""
        while self._spares:
            pid, channel = self._spares.popleft()
            try:
                socket.send_fds(channel, [name.encode()], [connection.fileno()])
            except OSError:
                continue  # it has died, and will be reaped
            finally:
                channel.close()
            self.names[pid] = name
            return True
        return False

    def _fork(self, connection: socket.socket, name: str) -> int:
        """Fork a shim for the agent at the other end, or a spare one if `name` is empty. Raises OSError."""
        pid = os.fork()
        if pid == 0:
            self._live(connection, name)
        self.names[pid] = name
        return pid

    def _live(self, connection: socket.socket, name: str) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            descriptor = connection.fileno()
            os.closerange(3, descriptor)
            os.closerange(descriptor + 1, 1 << 20)
            # First of all: whatever is written to before this fork is copied once more after it.
            starter = Starter.fork(use_cgroups=self._use_cgroups, oom_score=self._oom_score)
            become_subreaper()
            pid = os.getpid()
            place = Place(
                state_directory=self._state_directory, name=name, shim_pid=pid, shim_start_time=files.start_time(pid),
                guard_pid=self._pid, guard_start_time=self._start_time, boot_id=self._boot_id,
                oom_score=self._oom_score, use_cgroups=self._use_cgroups,
            )  # fmt: skip
            life = serve if name else wait_and_serve
            life(connection, place, starter)
            code = 0
        except BaseException:  # noqa: BLE001 - the last frame of a process: say what happened and leave
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
