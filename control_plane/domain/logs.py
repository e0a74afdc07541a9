"""What the database knows about logs: whose they are, where they end, and what a reader follows."""

from dataclasses import dataclass
from datetime import datetime

from control_plane.domain.ids import Holder, RunId
from control_plane.domain.log import LogKind, LogRecord
from control_plane.domain.reason import Reason
from control_plane.domain.run import RUN_TERMINAL, RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class LogExit:
    """The end of a log by the exit record: its length in bytes of offset, and the runner's digest (hex).

    Not `counted`: the shim or the host died, so that how much is missing is not known.
    """

    final_offset: int
    digest: str
    counted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOwner:
    """Who may add to a log, and what is known of its end; `exit` is None until the exit record is stored."""

    holder: Holder
    sealed: bool = False
    exit: LogExit | None = None
    # The run's newest fence: told to a runner whose evidence is refused.
    current_lease_epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSegment:
    """One segment of a log: offsets [first_offset, end_offset), and how many bytes it takes in the store."""

    index: int
    first_offset: int
    end_offset: int
    first_at: datetime | None
    newlines: int
    stored_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSeal:
    """The mark that a log gets no more bytes. Not `complete`: bytes are missing that no gap record counts."""

    bytes: int
    digest: str
    complete: bool
    segments: tuple[LogSegment, ...] = ()
    # Why it is not complete, for the event.
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogAttempt:
    """One attempt of a run as a reader of its logs sees it; only attempts that were accepted have a log.

    `deleted`: retention has removed the bytes.
    """

    lease_epoch: int
    number: int
    finished: bool
    sealed: bool = False
    complete: bool = False
    bytes: int = 0
    digest: str = ""
    exit_code: int | None = None
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LogView:
    """A run and its attempts in the order of their epochs."""

    run_id: RunId
    state: RunState
    reason: Reason | None
    exit_code: int | None
    attempts: tuple[LogAttempt, ...] = ()

    @property
    def terminal(self) -> bool:
        """No further attempt will come."""
        return self.state in RUN_TERMINAL

    def attempt(self, lease_epoch: int) -> LogAttempt | None:
        return next((attempt for attempt in self.attempts if attempt.lease_epoch == lease_epoch), None)

    def after(self, lease_epoch: int) -> LogAttempt | None:
        """The next attempt behind `lease_epoch`."""
        return next((attempt for attempt in self.attempts if attempt.lease_epoch > lease_epoch), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """What a reader wants: from where (at most one of the three; none means from offset 0), how long, and which parts.

    `lease_epoch` 0 is the newest attempt that was accepted. With `follow` later attempts come too. Empty `kinds` are
    all, `step` None is all.
    """

    run_id: RunId
    lease_epoch: int = 0
    from_offset: int | None = None
    tail_lines: int | None = None
    since: datetime | None = None
    follow: bool = False
    kinds: frozenset[LogKind] = frozenset()
    step: int | None = None

    def wants(self, record: LogRecord) -> bool:
        """Whether a record passes the filter. Gaps belong to no stream: they always do."""
        if record.gap_bytes:
            return True
        return (not self.kinds or record.kind in self.kinds) and self.step in (None, record.step)

    def wanted(self, records: tuple[LogRecord, ...]) -> tuple[LogRecord, ...]:
        """Those that pass; the same tuple if there is no filter."""
        if not self.kinds and self.step is None:
            return records
        return tuple(record for record in records if self.wants(record))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStart:
    """An attempt's log begins, at offset 0."""

    lease_epoch: int
    attempt_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBatch:
    """Records of one attempt, without those that were filtered out; `next_offset` lies behind these too."""

    lease_epoch: int
    offset: int
    next_offset: int
    records: tuple[LogRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEnd:
    """The last item: how the run stands and what is stored of the attempt.

    Not `complete`: bytes of this attempt are missing, or may be, and no gap record covers them.
    """

    lease_epoch: int
    state: RunState
    reason: Reason | None
    exit_code: int | None
    bytes: int
    digest: str
    complete: bool


LogItem = LogStart | LogBatch | LogEnd
