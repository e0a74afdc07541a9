"""The points inside a program: who reaches one that is armed is killed, stopped, signalled or held there.

Armed by `FAILPOINT`, or at any time by the file `armed` in the directory `FAILPOINT_DIR`. Both hold orders,
`point:action[@N[+]]`, separated by ';' or newlines: the action is taken at the N-th time (default the first) that a
process comes to the point, counted from the arming, and only once in all, unless a '+' says each time from then on.
Of a point `a.b.c` also `a.*` is a name, which counts all that begin so.

A hit is a line `<order's number> <point> <pid> <action>` in `<FAILPOINT_DIR>/hits`, written before the action is taken.
Standard library only, for it also lives in the processes above the runs.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass

ORDERS = "FAILPOINT"
DIRECTORY = "FAILPOINT_DIR"
ARMED = "armed"
HITS = "hits"
HELD_AT_MOST_S = 90.0
ABANDONED = 97

SIGNALS = {
    "kill": signal.SIGKILL,
    "stop": signal.SIGSTOP,
    "term": signal.SIGTERM,
    "leave": signal.SIGUSR1,
}
ACTIONS = frozenset({*SIGNALS, "pause", "note"})


@dataclass(frozen=True, slots=True)
class Order:
    """What to do at which point."""

    number: str
    point: str
    action: str
    nth: int = 1
    each: bool = False

    def concerns(self, point: str) -> bool:
        """Whether it is about this point."""
        return point == self.point or (self.point.endswith("*") and point.startswith(self.point[:-1]))


def parse(text: str, prefix: str = "") -> tuple[Order, ...]:
    """The orders in a text. Raises ValueError for what is none."""
    found = []
    for number, word in enumerate(filter(None, (item.strip() for item in text.replace("\n", ";").split(";")))):
        point, _, order = word.partition(":")
        action, _, nth = order.partition("@")
        each = nth.endswith("+")
        if action not in ACTIONS or not point:
            raise ValueError(f"{word!r} is not point:action[@N[+]], with an action of {', '.join(sorted(ACTIONS))}")
        found.append(Order(f"{prefix}{number}", point, action, int(nth.rstrip("+") or 1), each))
    return tuple(found)


class Points:
    """The orders of this process, and how often it came to each of their points."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._static = parse(os.environ.get(ORDERS, ""), "e")
        self._directory = os.environ.get(DIRECTORY, "")
        self._orders: tuple[Order, ...] = self._static
        self._counts: dict[str, int] = {}
        self._read: tuple[int, int] = (0, 0)

    def reach(self, point: str) -> None:
        """This process is at the point."""
        with self._lock:
            due = [order for order in self._look() if order.concerns(point) and self._is_due(order)]
        for order in due:
            self._act(order, point)

    def _look(self) -> tuple[Order, ...]:
        """The orders now: the file is read again when another one has taken its place."""
        if not self._directory:
            return self._orders
        try:
            status = os.stat(os.path.join(self._directory, ARMED))
        except FileNotFoundError:
            return self._orders
        if self._read != (status.st_ino, status.st_mtime_ns):
            with open(os.path.join(self._directory, ARMED), encoding="ascii") as file:
                generation, _, text = file.read().partition("\n")
            self._read = (status.st_ino, status.st_mtime_ns)
            self._orders = (*self._static, *parse(text, f"{generation}-"))
        return self._orders

    def _is_due(self, order: Order) -> bool:
        count = self._counts[order.number] = self._counts.get(order.number, 0) + 1
        if order.each:
            return count >= order.nth
        return count == order.nth and self._is_first(order)

    def _is_first(self, order: Order) -> bool:
        """Whether no process has taken this order's action yet."""
        if not self._directory:
            return True
        try:
            os.close(os.open(os.path.join(self._directory, f"taken.{order.number}"), os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return False
        return True

    def _act(self, order: Order, point: str) -> None:
        self._tell(f"{order.number} {point} {os.getpid()} {order.action}\n")
        if order.action in SIGNALS:
            os.kill(os.getpid(), SIGNALS[order.action])
        elif order.action == "pause":
            self._hold(order)

    def _tell(self, line: str) -> None:
        if self._directory:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            hits = os.open(os.path.join(self._directory, HITS), flags, 0o600)
            os.write(hits, line.encode("ascii"))
            os.close(hits)

    def _hold(self, order: Order) -> None:
        """Until the test says `go`. A process that nobody lets go must not live for ever."""
        go = os.path.join(self._directory, f"go.{order.number}")
        end = time.monotonic() + HELD_AT_MOST_S
        while not os.path.exists(go):
            if time.monotonic() > end:
                os._exit(ABANDONED)
            time.sleep(0.005)


_points = Points()
reach = _points.reach
