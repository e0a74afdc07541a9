"""The live sessions: which runner can be reached now, and what is on its way to it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from datetime import datetime

from control_plane.domain.ids import Holder, RunnerId
from control_plane.domain.session import Goodbye, LogAck, LogRewind, ToRunner
from control_plane.telemetry import logger

log = logger("dispatch")

SUPERSEDED = "SUPERSEDED"
REVOKED = "REVOKED"
SILENT = "SILENT"
OVERFLOW = "OVERFLOW"
SHUTTING_DOWN = "SHUTTING_DOWN"


class LiveSession:
    """One life of a runner's stream, seen from inside: put a message in, or say goodbye.

    Args:
        put: queues a message for the stream's writer; False when it does not fit any more.
        end: takes nothing more and lets the stream end; the goodbye is the last that goes out.
    """

    def __init__(
        self,
        holder: Holder,
        *,
        put: Callable[[ToRunner, bool], bool],
        end: Callable[[Goodbye], None],
    ) -> None:
        self.holder = holder
        # 0 until the database has given one: with the Welcome.
        self.epoch = 0
        # Its beginning was given to the database, whatever has become of that.
        self.storing = False
        self.welcomed = False
        # By the wall clock, for people; None until then.
        self.opened_at: datetime | None = None
        # What the runner says of itself in heartbeats.
        self.draining = False
        # When its last message came, in monotonic seconds.
        self.heard_s = 0.0
        self.over = asyncio.Event()
        self._put, self._end = put, end

    @property
    def runner_id(self) -> RunnerId:
        """Whose session it is."""
        return self.holder.runner_id

    def send(self, message: ToRunner) -> None:
        """Queue a message. A session whose outbox is full is closed: the next one reconciles."""
        if not self.over.is_set() and not self._put(message, isinstance(message, LogAck | LogRewind)):
            log.warning("session is too slow and is closed", runner=self.runner_id, epoch=self.epoch)
            self.goodbye(OVERFLOW)

    def goodbye(self, reason: str, *, reconnect_after_s: float = 0.0, jitter_s: float = 0.0) -> None:
        """End the session; what still waits is dropped."""
        if not self.over.is_set():
            self.over.set()
            self._end(Goodbye(reason=reason, reconnect_after_s=reconnect_after_s, jitter_s=jitter_s))


class Sessions:
    """At most one live session per runner; the newest wins."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._by_runner: dict[RunnerId, LiveSession] = {}
        # Sessions that ended while the database could not be told, by runner: their epochs.
        self._owed: dict[RunnerId, int | None] = {}
        # Sessions whose beginning is being stored, by runner.
        self._arriving: Counter[RunnerId] = Counter()

    def __len__(self) -> int:
        return len(self._by_runner)

    def has_room(self, runner_id: RunnerId) -> bool:
        """Whether one more session may open; a runner's own newer one always may."""
        return runner_id in self._by_runner or len(self._by_runner) < self._most

    @contextmanager
    def arriving(self, session: LiveSession) -> Iterator[None]:
        """Around the storing of a session's beginning, up to and with `open`."""
        self._arriving[session.runner_id] += 1
        try:
            yield
        finally:
            self._arriving[session.runner_id] -= 1
            if not self._arriving[session.runner_id]:
                del self._arriving[session.runner_id]

    def is_away(self, runner_id: RunnerId) -> bool:
        """Whether a runner has no session at all, not even one that begins."""
        return runner_id not in self._by_runner and runner_id not in self._arriving

    def open(self, session: LiveSession) -> None:
        """Take a session in. Of two of the same runner the one with the newer epoch stays; the other one ends."""
        known = self._by_runner.get(session.runner_id)
        if known is not None and known.epoch > session.epoch:
            session.goodbye(SUPERSEDED)
            return
        self._by_runner[session.runner_id] = session
        if known is not None:
            known.goodbye(SUPERSEDED)

    def close(self, session: LiveSession) -> bool:
        """Forget a session that ended; False when a newer one has its place already."""
        if self._by_runner.get(session.runner_id) is not session:
            return False
        del self._by_runner[session.runner_id]
        return True

    def get(self, runner_id: RunnerId) -> LiveSession | None:
        """The session that work may be sent to: one that has been welcomed."""
        session = self._by_runner.get(runner_id)
        return session if session is not None and session.welcomed and not session.over.is_set() else None

    def __contains__(self, runner_id: object) -> bool:
        """Whether work may be sent to this runner now. As cheap with ten thousand sessions; from any thread."""
        return isinstance(runner_id, str) and self.get(RunnerId(runner_id)) is not None

    @property
    def drained(self) -> Container[RunnerId]:
        """The runners whose agent said that it takes no more."""
        return _Drained(self)

    def ready(self) -> tuple[LiveSession, ...]:
        """Every session that work may be sent to."""
        return tuple(s for s in self._by_runner.values() if s.welcomed and not s.over.is_set())

    def post(self, runner_id: RunnerId, message: ToRunner) -> None:
        """Send to a live session, or drop it: the next Hello's verdicts say the same."""
        session = self.get(runner_id)
        if session is not None:
            session.send(message)

    def end(self, runner_id: RunnerId, reason: str) -> None:
        """End a runner's session, welcomed or not."""
        session = self._by_runner.get(runner_id)
        if session is not None:
            session.goodbye(reason)

    def end_silent(self, now_s: float, lease_s: float) -> None:
        """A lease that ran out: the runner counts as away; what becomes of its attempts, their loss clocks decide."""
        for session in self.ready():
            if now_s - session.heard_s > lease_s:
                log.warning("runner is silent", runner=session.runner_id, epoch=session.epoch)
                session.goodbye(SILENT)

    def heard_all(self, now_s: float) -> None:
        """The server itself was paused: nobody could be heard meanwhile."""
        for session in self.ready():
            session.heard_s = now_s

    def owe(self, runner_id: RunnerId, epoch: int | None) -> None:
        """The end of this session is still to be stored; None: of one that ended before its epoch was known."""
        known = self._owed.get(runner_id, 0)
        self._owed[runner_id] = None if epoch is None or known is None else max(epoch, known)

    def take_owed(self) -> dict[RunnerId, int | None]:
        """What is to be stored; whoever takes it owes it again if that fails."""
        owed, self._owed = self._owed, {}
        return owed

    def goodbye_all(self, *, reconnect_after_s: float, jitter_s: float) -> None:
        """The server stops: tell every runner when to come back."""
        for session in list(self._by_runner.values()):
            session.goodbye(SHUTTING_DOWN, reconnect_after_s=reconnect_after_s, jitter_s=jitter_s)


class _Drained:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def __contains__(self, runner_id: object) -> bool:
        session = self._sessions.get(RunnerId(runner_id)) if isinstance(runner_id, str) else None
        return session is not None and session.draining
