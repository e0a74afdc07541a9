"""Taking logs in: the offset rule, the fence of evidence, group commit, and acknowledgements that mean durable.

Bytes are accepted from the attempt's own holder, whatever the run's newest fence is: the log of a finished, retried or
lost attempt is still completed. A slow or full disk delays acknowledgements, so that senders run out of credit; it
never makes this process hold more.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from control_plane.domain.ids import AttemptKey, Holder
from control_plane.domain.log import LogRecord
from control_plane.domain.logs import LogOwner, LogSeal
from control_plane.domain.session import Fenced, LogAck, LogChunk, LogRewind, Release
from control_plane.logs.commits import Committer, Written
from control_plane.logs.digest import LogDigest
from control_plane.logs.ledger import LogLedger
from control_plane.logs.offsets import Ahead, Append, BadChunk, Covered, place
from control_plane.logs.seals import Sealer
from control_plane.logs.store import LogSealed, LogStore
from control_plane.logs.streams import Answer, IngestSettings, LogAnswer, Stream, Streams, cost, log_topic
from control_plane.telemetry import logger
from control_plane.watch import Watch

log = logger("logs")


NOT_HELD = "its runner no longer has it"
_EMPTY = LogSeal(bytes=0, digest=LogDigest().hex(), complete=True)


def _nobody(message: LogAnswer) -> None:
    """The session has ended: the runner asks again in its next Hello."""


def _cannot_read(key: AttemptKey, error: OSError) -> None:
    """One log that the disk does not give must not end the session in which all others are sent."""
    log.error("a log cannot be read", run=key.run_id, epoch=key.lease_epoch, error=str(error))


class Ingest:
    """All logs on their way in. `run` commits until `close`; everything is for the event loop's thread."""

    def __init__(
        self, *, ledger: LogLedger, store: LogStore, watch: Watch, settings: IngestSettings | None = None
    ) -> None:
        settings = settings or IngestSettings()
        self._ledger = ledger
        self._store = store
        self._watch = watch
        self._streams = Streams(settings)
        # Attempts that printed nothing, while their exit records are being stored.
        self._ending: set[AttemptKey] = set()
        self._committer = Committer(store=store, streams=self._streams, settings=settings, committed=self._committed)
        self._sealer = Sealer(
            ledger=ledger,
            store=store,
            watch=watch,
            settings=settings,
            in_thread=self._committer.in_thread,
            sealed=self._streams.remove,
        )

    @property
    def held_bytes(self) -> int:
        """Memory that arriving logs take at the moment, roughly."""
        return self._streams.held_bytes

    def take_sealed(self) -> tuple[AttemptKey, ...]:
        """Logs that were sealed since the last call: they can be compressed."""
        fresh = tuple(self._sealer.fresh)
        self._sealer.fresh.clear()
        return fresh

    async def run(self) -> None:
        """Commit what arrives and seal what is whole, until `close`; what has arrived by then is still committed."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sealer.run(), name="log-seals")
            await self._committer.run()
            self._sealer.close()
        self._committer.shut()

    def close(self) -> None:
        """Let `run` end."""
        self._committer.close()

    # -- what runners say ---------------------------------------------------------------------------------------------

    async def offer(self, key: AttemptKey, holder: Holder, chunk: LogChunk, answer: Answer) -> None:
        """Take a chunk in. It never waits for the disk; answers come through `answer`, which must not block or raise.

        A chunk of an attempt that the database does not know is left without an answer: verdicts tell the runner.
        """
        if key in self._ending:
            return
        stream = await self._stream(key, holder, answer)
        if stream is None or stream.sealing or key in self._ending:
            return
        try:
            placed = place(stream.expected, chunk.offset, chunk.records)
        except BadChunk as error:
            log.warning("a log chunk was refused", run=key.run_id, epoch=key.lease_epoch, reason=str(error))
            return
        match placed:
            case Append(records, end):
                self._append(stream, records, end)
            case Covered(end):
                if end <= stream.committed:
                    self._acknowledge(stream)
            case Ahead():
                if not stream.turned_away and (stream.ahead_at is None or chunk.offset <= stream.ahead_at):
                    stream.answer(LogRewind(key=key, expected_offset=stream.expected))
                stream.ahead_at = chunk.offset

    @contextmanager
    def ending(self, key: AttemptKey, final_offset: int) -> Iterator[LogSeal | None]:
        """Around the storing of an exit record: what seals the log at once, if the record counts no byte and nothing
        was ever stored. Until the end nothing is taken in, so that it stays so."""
        if final_offset or key in self._ending or self._streams.get(key) is not None or not self._is_blank(key):
            yield None
            return
        self._ending.add(key)
        try:
            yield _EMPTY
        finally:
            self._ending.discard(key)

    async def exit_stored(self, key: AttemptKey, holder: Holder, answer: Answer) -> None:
        """The exit record is committed, or is listed again: seal the log if it is whole, else say what is missing."""
        owner = await self._ledger.owner(key)
        stream = await self._stream(key, holder, answer, owner)
        if stream is None or owner is None:
            return
        stream.exit = owner.exit
        if owner.exit is None or stream.committed < owner.exit.final_offset:
            self._acknowledge(stream)
        elif stream.whole:
            self._sealer.ask(stream)

    async def seal_missing(self, holder: Holder, listed: frozenset[AttemptKey]) -> None:
        """A holder's whole inventory was read: logs of ended attempts that it no longer lists get no more bytes."""
        for key in await self._ledger.unsealed(holder):
            if key not in listed:
                try:
                    await self.seal_incomplete(key)
                except OSError as error:
                    _cannot_read(key, error)  # the next inventory tries again

    async def seal_incomplete(self, key: AttemptKey, why: str = NOT_HELD) -> None:
        """Nothing more will come for this log: seal it with what is there."""
        owner = await self._ledger.owner(key)
        if owner is None or owner.sealed:
            return
        stream = self._streams.get(key)
        if stream is None:
            stream = await self._load(key, owner, _nobody)
        stream.exit = owner.exit
        await self._sealer.give_up(stream, why)

    async def committed(self, key: AttemptKey) -> int:
        """The offset behind the last durable byte: from here on bytes are wanted. 0 while the disk does not say."""
        stream = self._streams.get(key)
        if stream is not None:
            return stream.committed
        try:
            return await self._committer.in_thread(partial(self._store.end, key))
        except OSError as error:
            _cannot_read(key, error)
            return 0

    async def shown(self, key: AttemptKey) -> int:
        """As `committed`, for who only looks: of an attempt that has printed nothing no thread is asked."""
        return 0 if self._streams.get(key) is None and self._is_blank(key) else await self.committed(key)

    def forget_session(self, answer: Answer) -> None:
        """A session has ended. What it sent is still committed."""
        for stream in self._streams.of_session(answer):
            self._streams.move(stream, _nobody)
            self._leave_if_idle(stream)

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _stream(
        self, key: AttemptKey, holder: Holder, answer: Answer, owner: LogOwner | None = None
    ) -> Stream | None:
        """The stream of an attempt that this holder may write; None if there is none, and the runner was told."""
        stream = self._streams.get(key)
        if stream is None:
            owner = owner or await self._ledger.owner(key)
            if owner is None:
                log.warning("log bytes of an unknown attempt", run=key.run_id, epoch=key.lease_epoch)
                return None
            if owner.holder != holder:
                answer(Fenced(key=key, current_lease_epoch=owner.current_lease_epoch))
                return None
            if owner.sealed:
                answer(Release(key=key))
                return None
            try:
                stream = await self._load(key, owner, answer)
            except OSError as error:
                _cannot_read(key, error)  # no answer is no promise, and everybody else's logs go on
                return None
        if stream.holder != holder:
            answer(Fenced(key=key, current_lease_epoch=stream.current_lease_epoch))
            return None
        if stream.sealed:
            answer(Release(key=key))
            return None
        self._streams.move(stream, answer)
        return stream

    async def _load(self, key: AttemptKey, owner: LogOwner, answer: Answer) -> Stream:
        end = await self._committer.in_thread(partial(self._store.end, key))
        known = self._streams.get(key)
        if known is not None:
            return known
        stream = Stream(
            key=key,
            holder=owner.holder,
            current_lease_epoch=owner.current_lease_epoch,
            answer=answer,
            expected=end,
            committed=end,
            exit=owner.exit,
        )
        self._streams.add(stream)
        return stream

    def _is_blank(self, key: AttemptKey) -> bool:
        try:
            return self._store.is_blank(key)
        except (OSError, ValueError):
            return False  # the sealer looks again; what is no run's id, no run has

    def _append(self, stream: Stream, records: tuple[LogRecord, ...], end: int) -> None:
        size = cost(records)
        if stream.turned_away or not self._streams.has_room(stream, size):
            stream.turned_away = True
        else:
            self._streams.hold(stream, records, size, end)
        self._committer.add(stream)

    def _acknowledge(self, stream: Stream) -> None:
        window = self._streams.window(stream)
        stream.answer(LogAck(key=stream.key, committed_offset=stream.committed, window_bytes=window))

    def _committed(self, stream: Stream, written: Written) -> None:
        """A piece of the stream is durable, or could not be added."""
        stream.committed = written.end
        if isinstance(written.refused, LogSealed):
            stream.answer(Release(key=stream.key))
            self._streams.remove(stream)
            return
        if written.refused is not None:
            log.error("a log is not where it was", run=stream.key.run_id, error=str(written.refused))
            self._streams.drop_queue(stream)
            stream.answer(LogRewind(key=stream.key, expected_offset=stream.expected))
            return
        self._watch.notify(log_topic(stream.key))
        self._acknowledge(stream)
        if stream.whole:
            self._sealer.ask(stream)
        else:
            self._leave_if_idle(stream)

    def _leave_if_idle(self, stream: Stream) -> None:
        """A stream without a session is kept only while something of it is on its way."""
        if stream.answer is _nobody and stream.idle and not stream.sealing:
            self._streams.remove(stream)
