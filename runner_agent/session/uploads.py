"""Uploads what attempts leave in their workspaces: a connection of its own, one question at a time, for ever.

Nothing else of the agent waits for it. What a cut, a restart of the server or of this agent interrupts goes on from
where the server says.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from banksman.v1 import session_pb2 as wire
from banksman.v1 import session_pb2_grpc

from runner_agent.clock import Clock
from runner_agent.domain import backoff
from runner_agent.domain.events import Event, UploadMoved
from runner_agent.domain.ids import AttemptKey
from runner_agent.session.channel import Unreachable, connect, open_channel
from runner_agent.session.convert_spec import patterns_from
from runner_agent.session.convert_values import text
from runner_agent.session.enrolment import Enrolment
from runner_agent.session.refusals import Refused, sentence_of
from runner_agent.telemetry import logger
from runner_agent.workspace import harvest

AT_ONCE = 2
ANSWER_S = 120.0
SMALLEST_CHUNK_BYTES = 16 << 10
LARGEST_CHUNK_BYTES = 256 << 10
# On a slow link a chunk should not hold up a heartbeat for long.
SLOW_S, QUICK_S = 0.5, 0.1
MOST_NOTES = 99
NOTE_CHARACTERS = 1_000
READS = 3
TELL_EVERY_NS = 2_000_000_000
# The exit record is on its way: soon it is there.
SOON_S, SOON_TIMES = 0.05, 6

Call = grpc.aio.StreamStreamCall[wire.UploadArtifactRequest, wire.UploadArtifactResponse]


def next_chunk_bytes(size_bytes: int, took_s: float) -> int:
    """Larger while the link is quick, smaller when it is slow."""
    if took_s > SLOW_S:
        return max(SMALLEST_CHUNK_BYTES, size_bytes // 2)
    return min(LARGEST_CHUNK_BYTES, size_bytes * 2) if took_s < QUICK_S else size_bytes


class NotAnswered(ConnectionError):
    """The call has ended where an answer should have come."""


@dataclass(kw_only=True)
class Uploads:
    """All uploads of this runner; two at a time."""

    server: str
    insecure: bool
    enrolment: Enrolment
    state_directory_id: str
    clock: Clock
    post: Callable[[Event], None]
    chance: Callable[[], float] = random.random
    renew: bool = False
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def upload(self, key: AttemptKey, work: Path) -> None:
        """Until the server wants nothing more of this attempt."""
        log, failures = logger("uploads").bind(run=key.run_id, epoch=key.lease_epoch), 0
        while True:
            try:
                async with self.turns:
                    await self._once(key, work)
            except grpc.aio.AioRpcError as error:
                self.renew = self.renew or error.code() is grpc.StatusCode.UNAUTHENTICATED
                soon = error.code() is grpc.StatusCode.FAILED_PRECONDITION and failures < SOON_TIMES
                if not soon:
                    log.info("upload_broke", error=sentence_of(error))
            except (Unreachable, NotAnswered, Refused, TimeoutError, OSError) as error:
                log.info("upload_broke", error=str(error) or type(error).__name__)
                soon = False
            except Exception as error:  # it is told; the attempt itself is well, and is kept until then
                log.error("upload_broke", exc_info=error)
                soon = False
            else:
                return
            await asyncio.sleep(SOON_S * 2**failures if soon else backoff.delay_s(failures, self.chance()))
            failures += 1

    async def _once(self, key: AttemptKey, work: Path) -> None:
        known = self.enrolment.identity
        if known is None or not known.enrolled:
            raise Unreachable("this runner is not enrolled yet")
        channel = open_channel(self.server, insecure=self.insecure)
        try:
            await connect(channel)
            # The open session may have outlived the credential that it began with.
            credential = await self.enrolment.credential(channel, renew=self.renew)
            self.renew = False
            stub = session_pb2_grpc.RunnerSessionServiceStub(channel)
            call: Call = stub.UploadArtifact(metadata=(("authorization", f"Bearer {credential}"),))
            await _Conversation(call, self, key, work).hold()
        finally:
            await channel.close()


class _Conversation:
    """One call. Raises AioRpcError, NotAnswered, TimeoutError, OSError."""

    def __init__(self, call: Call, uploads: Uploads, key: AttemptKey, work: Path) -> None:
        self._call, self._uploads, self._key, self._work = call, uploads, key, work
        self._chunk_bytes = 64 << 10
        self._notes: list[str] = []
        self._told_ns = 0

    async def hold(self) -> None:
        key = wire.AttemptKey(run_id=self._key.run_id, lease_epoch=self._key.lease_epoch)
        opening = wire.UploadOpen(key=key, state_directory_id=self._uploads.state_directory_id)
        answer = await self._ask(wire.UploadArtifactRequest(open=opening))
        if answer.WhichOneof("message") == "finished":
            return
        wanted = answer.wanted
        names = await self._names(wanted)
        if len(names) > wanted.max_files:
            self._note(f"{len(names) - wanted.max_files} of {len(names)} files are left out: too many")
        for name in names[: wanted.max_files]:
            await self._send(name, wanted.max_file_bytes)
        finish = wire.UploadFinish(notes=self._notes)
        answer = await self._ask(wire.UploadArtifactRequest(finish=finish))
        if answer.WhichOneof("message") != "finished":
            raise NotAnswered("the server does not say that it has all")

    async def _names(self, wanted: wire.UploadWanted) -> tuple[str, ...]:
        try:
            found = await asyncio.to_thread(harvest.harvest, self._work, patterns_from(wanted.artifacts))
        except OSError as error:
            self._note(f"the workspace cannot be read: {error.strerror}")
            return ()
        for note in found.notes:
            self._note(note)
        return found.names

    async def _send(self, name: str, most_bytes: int) -> None:
        if text(name) != name or not name.isprintable():
            self._note(f"{name!a}: its name is not printable")
            return
        for _ in range(READS):
            try:
                descriptor = await asyncio.to_thread(harvest.open_file, self._work, name)
            except OSError as error:
                self._note(f"{name}: {error.strerror or error}")
                return
            try:
                why = await self._send_open(name, descriptor, most_bytes)
            finally:
                os.close(descriptor)
            if why is None:
                return
        self._note(f"{name}: {why}")

    async def _send_open(self, name: str, descriptor: int, most_bytes: int) -> str | None:
        """None: it is stored, or will never be, which was noted; a text: trying again may help."""
        if os.fstat(descriptor).st_size > most_bytes:
            self._note(f"{name}: it has more than the {most_bytes} bytes that a file may have")
            return None
        facts = await asyncio.to_thread(harvest.facts, descriptor)
        begin = wire.UploadBegin(
            name=name, size_bytes=facts.size_bytes, sha256=facts.sha256, executable=facts.executable
        )
        answer = await self._ask(wire.UploadArtifactRequest(begin=begin))
        while (kind := answer.WhichOneof("message")) == "offset":
            offset = answer.offset.offset
            size_bytes = min(self._chunk_bytes, facts.size_bytes - offset)
            data = await asyncio.to_thread(os.pread, descriptor, size_bytes, offset)
            if not data:
                return "it changes while it is read"
            answer = await self._timed(wire.UploadChunk(offset=offset, data=data))
        await self._tell()
        if kind == "refused":
            changed = answer.refused.why
            if facts == await asyncio.to_thread(harvest.facts, descriptor):
                self._note(f"{name}: {changed}")
                return None
            return changed
        return None if kind == "stored" else "the server answers with something else"

    async def _timed(self, chunk: wire.UploadChunk) -> wire.UploadArtifactResponse:
        began_ns = self._uploads.clock.boottime_ns()
        answer = await self._ask(wire.UploadArtifactRequest(chunk=chunk))
        took_s = (self._uploads.clock.boottime_ns() - began_ns) / 1e9
        self._chunk_bytes = next_chunk_bytes(self._chunk_bytes, took_s)
        await self._tell()
        return answer

    async def _tell(self) -> None:
        now_ns = self._uploads.clock.boottime_ns()
        if now_ns - self._told_ns >= TELL_EVERY_NS:
            self._told_ns = now_ns
            self._uploads.post(UploadMoved(key=self._key))

    async def _ask(self, request: wire.UploadArtifactRequest) -> wire.UploadArtifactResponse:
        async with asyncio.timeout(ANSWER_S):
            try:
                await self._call.write(request)
                answer = await self._call.read()
            except asyncio.InvalidStateError:
                answer = grpc.aio.EOF
            if isinstance(answer, wire.UploadArtifactResponse):
                return answer
            code, details = await self._call.code(), await self._call.details()
            trailing = await self._call.trailing_metadata()
        if code is grpc.StatusCode.OK:
            raise NotAnswered("the server has ended the call")
        raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)

    def _note(self, what: str) -> None:
        if len(self._notes) < MOST_NOTES:
            self._notes.append(text(what)[:NOTE_CHARACTERS])
