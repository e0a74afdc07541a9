"""A poll loop: descriptors and what to do when they are ready; signals arrive as bytes on a pipe."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterable

READ = select.POLLIN
WRITE = select.POLLOUT
_PROBLEMS = select.POLLHUP | select.POLLERR | select.POLLNVAL


class Loop:
    """One poll object. Handlers run in the order of registration, so that what was registered last is seen last."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, tuple[Callable[[], None], int]] = {}

    def watch(self, descriptor: int, mask: int, handler: Callable[[], None]) -> None:
        """Call `handler` when the descriptor is ready or broken; also changes an earlier watch."""
        self._poll.register(descriptor, mask)
        self._handlers[descriptor] = (handler, mask)

    def forget(self, descriptor: int) -> None:
        """Watch it no more; before it is closed."""
        if self._handlers.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def turn(self, timeout_s: float) -> bool:
        """Wait at most so long, then call the handlers of what is ready; whether anything was."""
        ready = dict(self._poll.poll(max(0, int(timeout_s * 1000 + 0.999))))
        for descriptor in [known for known in self._handlers if known in ready]:
            entry = self._handlers.get(descriptor)  # an earlier handler may have forgotten it
            if entry is not None and ready[descriptor] & (entry[1] | _PROBLEMS):
                entry[0]()
        return bool(ready)


class SignalPipe:
    """Signals as bytes to read, so that they interrupt nothing."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self.descriptor, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        let_pass(numbers)
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)

    def read(self) -> bytes:
        """The numbers of the signals that have come."""
        try:
            return os.read(self.descriptor, 4096)
        except BlockingIOError:
            return b""


def let_pass(numbers: Iterable[int]) -> None:
    """Nothing happens at these signals; and, other than with ignored ones, programs that are executed later can die."""
    for number in numbers:
        if number not in _passing:
            signal.signal(number, _note)
            _passing.add(number)


# Those with our handler, which forks inherit.
_passing: set[int] = set()


def _note(_number: int, _frame: object) -> None:
    """The wake-up byte says it all."""
