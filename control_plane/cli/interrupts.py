"""Ctrl-C and SIGTERM while a run is followed: noted once, obeyed at once the second time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Counts the signals; `first` is called for the first one after each `reset`, the next one raises."""

    def __init__(self, first: Callable[[int], None]) -> None:
        self._first = first
        self._seen = 0

    def reset(self, *, seen: int = 0) -> None:
        """Forget them; with seen=1 the very next one raises KeyboardInterrupt."""
        self._seen = seen

    def take(self, number: int, frame: FrameType | None = None) -> None:
        """The signal handler. Raises KeyboardInterrupt from the second signal on."""
        self._seen += 1
        if self._seen > 1:
            raise KeyboardInterrupt
        self._first(number)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Catch both signals meanwhile; only a main thread can, in another one nothing is caught."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.take) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)
