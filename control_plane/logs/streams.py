"""What is under way from runners: one stream per attempt, and how much of it may be in memory."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from control_plane.domain.ids import AttemptKey, Holder
from control_plane.domain.log import LogRecord
from control_plane.domain.logs import LogExit
from control_plane.domain.session import Fenced, LogAck, LogRewind, Release

LogAnswer = LogAck | LogRewind | Fenced | Release
Answer = Callable[[LogAnswer], None]

# A record costs more memory than its bytes.
RECORD_COST_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestSettings:
    """Bounds. A session's streams share its window; all streams share `total_bytes`, records' overhead counted.

    A commit takes at most `commit_bytes` and begins when the one before has ended, and not within `gather_s` of its
    beginning unless enough has come; `retry_s` passes between attempts to write to a disk that fails.
    """

    window_bytes: int = 4 << 20
    smallest_window_bytes: int = 64 << 10
    total_bytes: int = 64 << 20
    commit_bytes: int = 1 << 20
    gather_s: float = 0.008
    retry_s: float = 1.0
    # The same after an error that is none of the disk's: its traceback is long.
    trouble_s: float = 5.0
    seals_at_once: int = 64


@dataclass(slots=True, kw_only=True, eq=False)
class Stream:
    """One attempt's log on its way in. `expected` is the end of what was taken, `committed` of what is safe."""

    key: AttemptKey
    holder: Holder
    current_lease_epoch: int
    answer: Answer
    expected: int
    committed: int
    # It is being compared with its exit record: nothing more is taken in.
    sealing: bool = False
    sealed: bool = False
    exit: LogExit | None = None
    queue: deque[LogRecord] = field(default_factory=deque)
    queued_bytes: int = 0
    committing: bool = False
    # A chunk was turned away: the runner is asked to go back once there is room.
    turned_away: bool = False
    # Offset of the newest chunk that ran ahead; later ones of the same flight need no answer of their own.
    ahead_at: int | None = None

    @property
    def idle(self) -> bool:
        """Nothing of it waits or is being written."""
        return not self.queue and not self.committing

    @property
    def whole(self) -> bool:
        """The exit record is known, and no byte of it is missing."""
        return self.exit is not None and self.idle and self.committed >= self.exit.final_offset


class Streams:
    """All streams, and the bytes they hold."""

    def __init__(self, settings: IngestSettings) -> None:
        self._settings = settings
        self._streams: dict[AttemptKey, Stream] = {}
        self._by_session: dict[Answer, set[AttemptKey]] = {}
        self.held_bytes = 0

    def get(self, key: AttemptKey) -> Stream | None:
        return self._streams.get(key)

    def add(self, stream: Stream) -> None:
        self._streams[stream.key] = stream
        self._by_session.setdefault(stream.answer, set()).add(stream.key)

    def move(self, stream: Stream, answer: Answer) -> None:
        """The runner speaks through another session now."""
        if stream.answer != answer:
            self._leave(stream)
            stream.answer = answer
            stream.ahead_at = None
            self._by_session.setdefault(answer, set()).add(stream.key)

    def remove(self, stream: Stream) -> None:
        self.drop_queue(stream)
        self._leave(stream)
        self._streams.pop(stream.key, None)

    def of_session(self, answer: Answer) -> tuple[Stream, ...]:
        """The streams that a session speaks for."""
        return tuple(self._streams[key] for key in self._by_session.get(answer, ()))

    def window(self, stream: Stream) -> int:
        """How many bytes beyond the committed end a stream may have on their way."""
        settings = self._settings
        mates = max(1, len(self._by_session.get(stream.answer, ())))
        share = min(settings.window_bytes // mates, settings.total_bytes // max(1, len(self._streams)))
        return max(settings.smallest_window_bytes, share)

    def has_room(self, stream: Stream, cost_bytes: int) -> bool:
        """Whether a stream may hold so much more. One chunk is always allowed to a stream that holds nothing."""
        if self.held_bytes + cost_bytes > self._settings.total_bytes:
            return False
        return not stream.queued_bytes or stream.queued_bytes + cost_bytes <= self._settings.total_bytes // 4

    def hold(self, stream: Stream, records: tuple[LogRecord, ...], cost_bytes: int, end: int) -> None:
        stream.queue.extend(records)
        stream.queued_bytes += cost_bytes
        stream.expected = end
        stream.ahead_at = None
        self.held_bytes += cost_bytes

    def let_go(self, stream: Stream, cost_bytes: int) -> None:
        """Bytes have been written, or given up."""
        cost_bytes = min(cost_bytes, stream.queued_bytes)
        stream.queued_bytes -= cost_bytes
        self.held_bytes -= cost_bytes

    def drop_queue(self, stream: Stream) -> None:
        """Forget what waits: the runner sends it again from the committed end."""
        self.let_go(stream, stream.queued_bytes)
        stream.queue.clear()
        stream.expected = stream.committed
        stream.ahead_at = None

    def _leave(self, stream: Stream) -> None:
        mates = self._by_session.get(stream.answer)
        if mates is not None:
            mates.discard(stream.key)
            if not mates:
                del self._by_session[stream.answer]


def log_topic(key: AttemptKey) -> str:
    """What followers of this log are woken by."""
    return f"log:{key.run_id}:{key.lease_epoch}"


def cost(records: tuple[LogRecord, ...]) -> int:
    """Memory that records take, roughly."""
    return sum(len(record.data) + RECORD_COST_BYTES for record in records)
