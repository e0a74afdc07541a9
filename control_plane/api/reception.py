"""Where a runner's words go: state to lifecycle, bytes to the logs, signs of life to the clocks."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import count
from typing import assert_never

from control_plane.api.session_messages import bounded
from control_plane.dispatch.sessions import LiveSession, Sessions
from control_plane.dispatch.sightings import Sightings
from control_plane.dispatch.turns import Turns
from control_plane.domain.copies import replace
from control_plane.domain.errors import (
    BanksmanError,
    ErrorCode,
    FailedPrecondition,
    FieldViolation,
    ResourceExhausted,
    invalid_fields,
)
from control_plane.domain.ids import RunnerId
from control_plane.domain.session import (
    AttemptEventReport,
    AttemptExited,
    AttemptStarted,
    DrainNotice,
    FromRunner,
    Heartbeat,
    HeartbeatAck,
    HeldAttempt,
    HeldPhase,
    Hello,
    LogChunk,
    OfferReply,
    RejectReason,
    Resume,
    StopStatus,
    Verdict,
    VerdictKind,
    Welcome,
)
from control_plane.lifecycle import reports, runners
from control_plane.lifecycle.house import House
from control_plane.logs.ingest import Ingest
from control_plane.storage import reads
from control_plane.telemetry import logger

log = logger("api")

# The verdicts that say from which offset log bytes are wanted.
_RESUMES = frozenset({VerdictKind.KEEP, VerdictKind.START, VerdictKind.SEND_EXIT, VerdictKind.STOP})
HEARTBEATS = "heartbeats"


class Reception:
    """Serves all sessions of one server."""

    def __init__(self, house: House, sessions: Sessions, ingest: Ingest, sightings: Sightings) -> None:
        self._house, self._sessions, self._ingest, self._sightings = house, sessions, ingest, sightings
        self._unanswered = count()

    async def greet(self, session: LiveSession, hello: Hello, credential_generation: int) -> None:
        """Hello to Welcome: an older session ends, the inventory is judged, and only then work may leave."""
        timing = self._house.timing
        if hello.protocol_min > timing.protocol_max or hello.protocol_max < timing.protocol_min:
            raise FailedPrecondition(ErrorCode.PROTOCOL_UNSUPPORTED)
        if not self._sessions.has_room(session.runner_id):
            raise ResourceExhausted(ErrorCode.QUEUE_FULL, "The control plane has as many sessions as it may.")
        with self._sessions.arriving(session):
            session.storing = True
            runner = await runners.connect(
                self._house, session.runner_id, hello, credential_generation=credential_generation
            )
            session.epoch, session.draining = runner.session_epoch, hello.draining
            session.opened_at = self._house.clock.now()
            self._sightings.came(runner, session.opened_at)
            self._sessions.open(session)
        verdicts = await self._resumed(await reports.inventory(self._house, session.holder, hello.inventory))
        self._sightings.listed(session.runner_id, hello.inventory, verdicts, self._house.clock.now())
        period_s = timing.heartbeat_s(len(self._sessions))
        session.send(
            Welcome(
                session_epoch=runner.session_epoch,
                protocol=min(hello.protocol_max, timing.protocol_max),
                heartbeat_interval_s=period_s,
                lease_s=timing.lease_s(len(self._sessions)),
                log_window_bytes=timing.log_window_bytes,
                max_chunk_bytes=timing.max_chunk_bytes,
                verdicts=bounded(verdicts),
                draining=runner.draining,
                runner_name=runner.name,
            )
        )
        session.heard_s = self._house.clock.monotonic_s()
        session.welcomed = True
        log.info("session opened", runner=runner.name, epoch=session.epoch, held=len(hello.inventory))
        await self._settle_logs(session, hello.inventory, verdicts)
        await self._ingest.seal_missing(session.holder, frozenset(entry.key for entry in hello.inventory))
        self._house.watch.notify("queue", "slots")

    async def take(self, session: LiveSession, message: FromRunner, turns: Turns) -> None:
        """One message of a welcomed session; waits only when too much is under way."""
        session.heard_s = self._house.clock.monotonic_s()
        match message:
            case LogChunk():
                await self._ingest.offer(message.key, session.holder, message, session.send)
            case Heartbeat():
                await turns.take(HEARTBEATS, partial(self._heartbeat, session, message))
            case DrainNotice():
                session.draining = True
                log.info("runner drains", runner=session.runner_id, reason=message.reason)
            case AttemptStarted() | AttemptEventReport():
                # It is answered by silence, and its commit may take a little: what comes next of this run is not to
                # wait for that. Both are in the writer's queue in the order in which they came.
                await turns.take((message.key.run_id, next(self._unanswered)), partial(self._report, session, message))
            case OfferReply() | AttemptExited() | StopStatus():
                await turns.take(message.key.run_id, partial(self._report, session, message))
            case Hello():
                raise invalid_fields(FieldViolation(field="hello", description="comes once, at the beginning"))
            case _:
                assert_never(message)

    async def left(self, session: LiveSession) -> None:
        """The stream is over, for whatever reason; the runner is away unless a newer session has its place."""
        session.over.set()
        self._ingest.forget_session(session.send)
        if self._sessions.close(session):
            log.info("session closed", runner=session.runner_id, epoch=session.epoch)
            await self._store_end(session.runner_id, session.epoch)
        elif session.storing and not session.epoch and self._sessions.is_away(session.runner_id):
            # It left while its beginning was being stored, which may still come true.
            await self._store_end(session.runner_id, None)

    async def _store_end(self, runner_id: RunnerId, epoch: int | None) -> None:
        try:
            await runners.disconnect(self._house, runner_id, epoch)
        except asyncio.CancelledError:
            # Perhaps it is being stored all the same; again is no error.
            self._sessions.owe(runner_id, epoch)
            raise
        except BanksmanError as error:
            log.warning("the end of a session could not be stored yet", runner=runner_id, error=str(error))
            self._sessions.owe(runner_id, epoch)

    async def seal_all(self, runner_id: RunnerId) -> int:
        """The runner's host is gone with its disk: what it has not sent never comes. How many logs that ended."""
        keys = await self._house.database.read(partial(reads.unsealed_of_runner, runner_id=runner_id))
        for key in keys:
            await self._ingest.seal_incomplete(key, "its host was declared dead")
        return len(keys)

    async def _report(self, session: LiveSession, message: FromRunner) -> None:
        holder = session.holder
        match message:
            case OfferReply():
                await reports.offer_reply(self._house, holder, message)
                if message.reject_reason is RejectReason.DRAINING and not session.draining:
                    await self._resume(session)
            case AttemptStarted():
                await reports.attempt_started(self._house, holder, message)
            case AttemptEventReport():
                await reports.attempt_event(self._house, holder, message)
            case StopStatus():
                await reports.stop_status(self._house, holder, message)
            case AttemptExited():
                with self._ingest.ending(message.key, message.exit.final_offset) as empty:
                    released = await reports.attempt_exited(self._house, holder, message, empty)
                if not released:
                    await self._ingest.exit_stored(message.key, holder, session.send)

    async def _resume(self, session: LiveSession) -> None:
        """It refuses because it was told to drain, once: it has missed that it may take offers again."""
        runner = await self._house.database.read(partial(reads.runner, runner_id=session.runner_id))
        if runner is not None and not runner.draining:
            session.send(Resume())

    async def _heartbeat(self, session: LiveSession, beat: Heartbeat) -> None:
        """The ack says what the held set is worth; it is what renews the runner's own loss deadlines."""
        if session.draining != beat.draining:
            session.draining = beat.draining
            self._house.watch.notify("queue", "slots")
        verdicts = await self._resumed(await reports.heartbeat(self._house, session.holder, beat.held))
        self._sightings.listed(session.runner_id, beat.held, verdicts, self._house.clock.now())
        next_s = self._house.timing.heartbeat_s(len(self._sessions))
        said = bounded(verdicts, turn=beat.seq)
        session.send(HeartbeatAck(seq=beat.seq, next_interval_s=next_s, verdicts=said))
        await self._settle_logs(session, beat.held, verdicts)

    async def _resumed(self, verdicts: tuple[Verdict, ...]) -> tuple[Verdict, ...]:
        """The same verdicts, saying from where log bytes are wanted."""
        return tuple(
            [
                replace(verdict, resume_offset=await self._ingest.committed(verdict.key))
                if verdict.kind in _RESUMES
                else verdict
                for verdict in verdicts
            ]
        )

    async def _settle_logs(
        self, session: LiveSession, held: tuple[HeldAttempt, ...], verdicts: tuple[Verdict, ...]
    ) -> None:
        """Ended attempts that are still listed: their logs are sealed if they are whole, else asked for."""
        released = {verdict.key for verdict in verdicts if verdict.kind is VerdictKind.RELEASE}
        for entry in held:
            if entry.phase is HeldPhase.EXITED and entry.key not in released:
                await self._ingest.exit_stored(entry.key, session.holder, session.send)
