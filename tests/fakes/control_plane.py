"""A control plane for tests of the agent: the session's rules over real gRPC, in this process, kept in memory.

It judges as the real one does (verdicts per entry, log bytes by offset, release when length and digest match), and can
lose messages, refuse and cut on demand. `tests/unit/runner_agent/test_fake_control_plane.py` holds it to the real one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from banksman.v1 import run_pb2 as run
from banksman.v1 import session_pb2 as pb
from banksman.v1 import session_pb2_grpc
from banksman.v1 import spec_pb2 as spec
from google.protobuf.duration_pb2 import Duration

from runner_agent.shim.digest import LogDigest
from tests.fakes.plane_attempt import FakeAttempt, Key, command, duration, shell, wire_key
from tests.fakes.plane_enrolment import FakeEnrolment, Refusal

__all__ = ["FakeAttempt", "FakeControlPlane", "Refusal", "command", "shell"]

PATIENCE_S = 30.0


class FakeControlPlane(FakeEnrolment):
    """The doors and the memory behind them. Tests read and change the public fields."""

    def __init__(self) -> None:
        super().__init__()
        self.url = ""
        self.attempts: dict[Key, FakeAttempt] = {}
        self.refuse_session: Refusal | None = None
        self.heartbeat_s = 0.2
        self.lease_s = 60.0
        self.window_bytes = 1 << 20
        self.draining = False
        self.greet: Callable[[pb.Welcome], pb.Welcome | None] = lambda welcome: welcome
        self.hellos: list[pb.Hello] = []
        self.heartbeats: list[pb.Heartbeat] = []
        self.replies: list[pb.OfferReply] = []
        self.drain_notices = 0
        self.heard: Counter[str] = Counter()
        self.chunks: list[tuple[Key, int, int]] = []
        self.lose: Counter[str] = Counter()
        self.unknown: set[Key] = set()
        self.bytes_lost_since_heartbeat = 0
        self.furthest_offset = 0
        self.session_epoch = 0
        self._changed = asyncio.Condition()
        self._server: grpc.aio.Server | None = None
        self._outbox: asyncio.Queue[pb.SessionResponse | None] | None = None

    # ---- what tests do

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[FakeControlPlane]:
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        session_pb2_grpc.add_RunnerSessionServiceServicer_to_server(self, server)
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        self.url = f"http://127.0.0.1:{bound}"
        await server.start()
        self._server = server
        try:
            yield self
        finally:
            await server.stop(0)

    async def close(self) -> None:
        """Go away, as a server that is killed; `serve` on the same port brings it back."""
        assert self._server is not None
        await self._server.stop(0)
        self._outbox = None

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def phases(self) -> list[pb.HeldPhase.ValueType]:
        """What the newest heartbeat listed."""
        return [entry.phase for entry in self.heartbeats[-1].held] if self.heartbeats else []

    @property
    def nothing_held(self) -> bool:
        """Whether the newest heartbeat listed nothing."""
        return bool(self.heartbeats) and not self.heartbeats[-1].held

    @property
    def connected(self) -> bool:
        return self._outbox is not None

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait until something that the agent says makes the condition true."""
        try:
            async with asyncio.timeout(PATIENCE_S), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            said = {key: (each.state, len(each.log)) for key, each in self.attempts.items()}
            raise AssertionError(f"not within {PATIENCE_S:g} s: {what}; {said}; {dict(self.heard)}") from None

    async def until_connected(self) -> None:
        await self.until(lambda: self.connected, "a session")

    async def offer(
        self,
        run_spec: spec.RunSpec,
        *,
        run_id: str = "",
        epoch: int = 1,
        slots: int = 1,
        secret_values: dict[str, bytes] | None = None,
        lost_after_s: float = 3_600.0,
    ) -> FakeAttempt:
        """Offer an attempt; the Assignment follows its acceptance."""
        key = (run_id or f"run-{secrets.token_hex(4)}", epoch)
        attempt = FakeAttempt(key=key, spec=run_spec, secrets=secret_values or {}, lost_after_s=lost_after_s)
        self.attempts[key] = attempt
        offer = pb.Offer(key=wire_key(key), slots=slots, summary="a run", deadline=Duration(seconds=10))
        await self.say(offer=offer)
        return attempt

    async def cancel(self, attempt: FakeAttempt, *, grace_s: float = 10.0, signal: str = "SIGTERM") -> None:
        grace = Duration()
        grace.FromNanoseconds(int(grace_s * 1e9))
        attempt.stop = pb.Stop(key=wire_key(attempt.key), reason=run.REASON_USER_CANCEL, signal=signal, grace=grace)
        await self.say(stop=attempt.stop)

    async def say(self, **message: Any) -> None:
        """Send one message, unless it is to be lost or nobody is there."""
        ((kind, _),) = message.items()
        if self.lose[f">{kind}"] > 0:
            self.lose[f">{kind}"] -= 1
        elif self._outbox is not None:
            self._outbox.put_nowait(pb.SessionResponse(**message))

    async def cut(self) -> None:
        """End the session that is open, from this side, without a word."""
        if self._outbox is not None:
            self._outbox.put_nowait(None)
            await self.until(lambda: not self.connected, "the end of the session")

    async def lose_log(self, attempt: FakeAttempt, offset: int) -> None:
        """Forget the log from `offset` on, as a server that was restored, and ask for it again."""
        kept = bytes(attempt.log[:offset])
        attempt.log = bytearray(kept)
        attempt.digest = LogDigest()
        attempt.digest.data(kept)
        await self.say(log_rewind=pb.LogRewind(key=wire_key(attempt.key), expected_offset=offset))

    # ---- doors

    async def Session(self, requests: AsyncIterator[pb.SessionRequest], context: Any) -> None:
        metadata = dict(context.invocation_metadata())
        credential = str(metadata.get("authorization", "")).removeprefix("Bearer ")
        if self.refuse_session is not None:
            await self.refuse_session.abort(context)
        if credential not in self.credentials:
            await Refusal(grpc.StatusCode.UNAUTHENTICATED, "The credential is not valid.", "TOKEN_INVALID").abort(
                context
            )
        outbox: asyncio.Queue[pb.SessionResponse | None] = asyncio.Queue()
        try:
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(self._read(requests, outbox))
                while (response := await outbox.get()) is not None:
                    await context.write(response)
                reader.cancel()
        finally:
            # Also when the peer has died in the middle of a write.
            if self._outbox is outbox:
                self._outbox = None
            await self._notify()

    async def _read(self, requests: AsyncIterator[pb.SessionRequest], outbox: asyncio.Queue[Any]) -> None:
        inventory: list[pb.HeldAttempt] = []
        async for request in requests:
            kind = request.WhichOneof("message")
            if kind is None:
                continue
            self.heard[kind] += 1
            if self.lose[kind] > 0:
                self.lose[kind] -= 1
                self._measure_lost(request)
                continue
            if kind == "hello":
                await self._hello(request.hello, inventory, outbox)
            elif self._outbox is outbox:
                await _DOORS[kind](self, getattr(request, kind))
            await self._notify()
        outbox.put_nowait(None)

    def _measure_lost(self, request: pb.SessionRequest) -> None:
        if request.WhichOneof("message") == "log_chunk":
            size = sum(len(record.data) for record in request.log_chunk.records)
            self.bytes_lost_since_heartbeat += size
            self.furthest_offset = max(self.furthest_offset, request.log_chunk.offset + size)

    # ---- what the runner says

    async def _hello(self, hello: pb.Hello, inventory: list[pb.HeldAttempt], outbox: asyncio.Queue[Any]) -> None:
        self.hellos.append(hello)
        inventory.extend(hello.inventory)
        if hello.more:
            return
        if self._outbox is not None and self._outbox is not outbox:
            goodbye = pb.Goodbye(reason="superseded by a newer session", reconnect_after=Duration(seconds=1))
            self._outbox.put_nowait(pb.SessionResponse(goodbye=goodbye))
            self._outbox.put_nowait(None)
        self._outbox = outbox
        self.session_epoch += 1
        welcome = pb.Welcome(
            session_epoch=self.session_epoch,
            protocol=1,
            heartbeat_interval=duration(self.heartbeat_s),
            lease=duration(self.lease_s),
            log_window_bytes=self.window_bytes,
            max_chunk_bytes=64 << 10,
            verdicts=[self.verdict(entry) for entry in inventory],
            draining=self.draining,
            runner_name="fake",
        )
        greeting = self.greet(welcome)
        if greeting is not None:
            await self.say(welcome=greeting)

    async def _heartbeat(self, heartbeat: pb.Heartbeat) -> None:
        self.heartbeats.append(heartbeat)
        self.bytes_lost_since_heartbeat = 0
        verdicts = [self.verdict(entry) for entry in heartbeat.held]
        ack = pb.HeartbeatAck(seq=heartbeat.seq, next_interval=duration(self.heartbeat_s), verdicts=verdicts)
        await self.say(heartbeat_ack=ack)

    def verdict(self, entry: pb.HeldAttempt) -> pb.Verdict:
        key = (entry.key.run_id, entry.key.lease_epoch)
        attempt = self.attempts.get(key)
        if attempt is None or key in self.unknown:
            return pb.Verdict(key=entry.key, kind=pb.VERDICT_KIND_UNKNOWN)
        return attempt.verdict(entry)

    async def _offer_reply(self, reply: pb.OfferReply) -> None:
        self.replies.append(reply)
        attempt = self.attempts[reply.key.run_id, reply.key.lease_epoch]
        if not reply.accept:
            attempt.rejected = reply
            attempt.state = "REJECTED"
        elif attempt.state == "OFFERED":
            attempt.state = "STARTING"
            await self.say(assignment=attempt.assignment())

    async def _attempt_started(self, started: pb.AttemptStarted) -> None:
        attempt = self._attempt(started.key)
        attempt.state, attempt.pid = "RUNNING", started.pid
        attempt.starts += 1

    async def _attempt_event(self, event: pb.AttemptEvent) -> None:
        self._attempt(event.key).steps.append(event.step_ended)

    async def _attempt_exited(self, exited: pb.AttemptExited) -> None:
        attempt = self._attempt(exited.key)
        if attempt.key in self.unknown:
            return
        attempt.store_exit(exited.exit)
        await self._release_if_complete(attempt)

    async def _stop_status(self, status: pb.StopStatus) -> None:
        self._attempt(status.key).stop_phases.append(status.phase)

    async def _log_chunk(self, chunk: pb.LogChunk) -> None:
        attempt = self._attempt(chunk.key)
        expected = attempt.digest.offset
        self.chunks.append((attempt.key, chunk.offset, sum(len(record.data) for record in chunk.records)))
        if chunk.offset > expected:
            await self.say(log_rewind=pb.LogRewind(key=chunk.key, expected_offset=expected))
            return
        attempt.take(chunk)
        committed = attempt.digest.offset
        await self.say(log_ack=pb.LogAck(key=chunk.key, committed_offset=committed, window_bytes=self.window_bytes))
        await self._release_if_complete(attempt)

    async def _drain_notice(self, _: pb.DrainNotice) -> None:
        self.drain_notices += 1

    async def _release_if_complete(self, attempt: FakeAttempt) -> None:
        if attempt.sealed and not attempt.released:
            attempt.released = True
            await self.say(release=pb.Release(key=wire_key(attempt.key)))

    def _attempt(self, key: pb.AttemptKey) -> FakeAttempt:
        return self.attempts[key.run_id, key.lease_epoch]

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


Door = Callable[[FakeControlPlane, Any], Awaitable[None]]
_DOORS: dict[str, Door] = {
    "heartbeat": FakeControlPlane._heartbeat,
    "offer_reply": FakeControlPlane._offer_reply,
    "attempt_started": FakeControlPlane._attempt_started,
    "attempt_event": FakeControlPlane._attempt_event,
    "attempt_exited": FakeControlPlane._attempt_exited,
    "stop_status": FakeControlPlane._stop_status,
    "log_chunk": FakeControlPlane._log_chunk,
    "drain_notice": FakeControlPlane._drain_notice,
}
