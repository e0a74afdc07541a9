"""A control plane for tests of the agent: the session's rules over real gRPC, in this process, kept in memory.

It judges as the real one does (verdicts per entry, log bytes by offset, release when length and digest match), and can
lose messages, refuse and cut on demand. `tests/unit/runner_agent/test_fake_control_plane.py` holds it to the real one.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from banksman.v1 import run_pb2 as run
from banksman.v1 import session_pb2 as pb
from banksman.v1 import session_pb2_grpc
from banksman.v1 import spec_pb2 as spec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from runner_agent.shim.digest import LogDigest

PATIENCE_S = 30.0
FAR_FUTURE = 4_000_000_000
Key = tuple[str, int]


@dataclass(slots=True)
class FakeAttempt:
    """What the control plane knows of one attempt."""

    key: Key
    spec: spec.RunSpec
    secrets: dict[str, bytes] = field(default_factory=dict)
    lost_after_s: float = 3_600.0
    state: str = "OFFERED"
    rejected: pb.OfferReply | None = None
    holder: str = ""
    pid: int = 0
    starts: int = 0
    stop: pb.Stop | None = None
    stop_phases: list[int] = field(default_factory=list)
    steps: list[run.StepResult] = field(default_factory=list)
    exit: pb.ExitRecord | None = None
    log: bytearray = field(default_factory=bytearray)
    records: list[tuple[int, int, bytes]] = field(default_factory=list)
    digest: LogDigest = field(default_factory=LogDigest)
    released: bool = False
    renewals: int = 0

    @property
    def over(self) -> bool:
        return self.exit is not None

    @property
    def sealed(self) -> bool:
        """Whether every byte of its log is here."""
        if self.exit is None or self.digest.offset != self.exit.final_offset:
            return False
        return self.exit.digest in ("", self.digest.hex())

    def text(self, kind: int | None = None) -> bytes:
        return b"".join(data for was, _, data in self.records if kind in (None, was))


@dataclass(slots=True)
class Refusal:
    """A status to end a call with."""

    code: grpc.StatusCode
    message: str
    reason: str = ""

    async def abort(self, context: Any) -> None:
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain="banksman")
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        status.details.add().Pack(info)
        await context.abort_with_status(rpc_status.to_status(status))


class FakeControlPlane(session_pb2_grpc.RunnerSessionServiceServicer):
    """The doors and the memory behind them. Tests read and change the public fields."""

    def __init__(self) -> None:
        self.url = ""
        self.attempts: dict[Key, FakeAttempt] = {}
        self.join_tokens = {"join-1"}
        self.runners: dict[str, bytes] = {}
        self.credentials: dict[str, str] = {}
        self.credential_lifetime_s = 3_600.0
        self.refuse_enrol: Refusal | None = None
        self.refuse_renew: Refusal | None = None
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
        offer = pb.Offer(key=self._key(key), slots=slots, summary="a run", deadline=Duration(seconds=10))
        await self.say(offer=offer)
        return attempt

    async def cancel(self, attempt: FakeAttempt, *, grace_s: float = 10.0, signal: str = "SIGTERM") -> None:
        grace = Duration()
        grace.FromNanoseconds(int(grace_s * 1e9))
        attempt.stop = pb.Stop(key=self._key(attempt.key), reason=run.REASON_USER_CANCEL, signal=signal, grace=grace)
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
        await self.say(log_rewind=pb.LogRewind(key=self._key(attempt.key), expected_offset=offset))

    def assignment(self, attempt: FakeAttempt) -> pb.Assignment:
        lost_after = Duration()
        lost_after.FromNanoseconds(int(attempt.lost_after_s * 1e9))
        return pb.Assignment(
            key=self._key(attempt.key),
            spec=attempt.spec,
            secrets=attempt.secrets,
            lost_after=lost_after,
            project_name="default",
            task_name="a-task",
            attempt_number=1,
        )

    # ---- doors

    async def Enroll(self, request: pb.EnrollRequest, context: Any) -> pb.EnrollResponse:
        if self.refuse_enrol is not None:
            await self.refuse_enrol.abort(context)
        text = f"banksman-enroll\n{request.join_token}\n{request.name}"
        if request.join_token not in self.join_tokens or not _signed(request.public_key, request.signature, text):
            await Refusal(grpc.StatusCode.UNAUTHENTICATED, "The join token is not valid.", "JOIN_TOKEN_INVALID").abort(
                context
            )
        self.join_tokens.discard(request.join_token)
        runner_id = f"runner-{len(self.runners) + 1}"
        self.runners[runner_id] = request.public_key
        credential, expires_at = self._issue(runner_id)
        return pb.EnrollResponse(runner_id=runner_id, credential=credential, credential_expires_at=expires_at)

    async def RenewCredential(self, request: pb.RenewCredentialRequest, context: Any) -> pb.RenewCredentialResponse:
        if self.refuse_renew is not None:
            await self.refuse_renew.abort(context)
        text = f"banksman-renew\n{request.runner_id}\n{request.at_unix_s}\n{request.nonce.hex()}"
        key = self.runners.get(request.runner_id, b"")
        if len(request.nonce) < 16 or not _signed(key, request.signature, text):
            await Refusal(grpc.StatusCode.UNAUTHENTICATED, "The signature is wrong.", "CREDENTIAL_INVALID").abort(
                context
            )
        credential, expires_at = self._issue(request.runner_id)
        return pb.RenewCredentialResponse(credential=credential, expires_at=expires_at)

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
            heartbeat_interval=_duration(self.heartbeat_s),
            lease=_duration(self.lease_s),
            log_window_bytes=self.window_bytes,
            max_chunk_bytes=64 << 10,
            verdicts=[self._judge(entry) for entry in inventory],
            draining=self.draining,
            runner_name="fake",
        )
        greeting = self.greet(welcome)
        if greeting is not None:
            await self.say(welcome=greeting)

    async def _heartbeat(self, heartbeat: pb.Heartbeat) -> None:
        self.heartbeats.append(heartbeat)
        self.bytes_lost_since_heartbeat = 0
        verdicts = [self._judge(entry) for entry in heartbeat.held]
        ack = pb.HeartbeatAck(seq=heartbeat.seq, next_interval=_duration(self.heartbeat_s), verdicts=verdicts)
        await self.say(heartbeat_ack=ack)

    def _judge(self, entry: pb.HeldAttempt) -> pb.Verdict:
        key = (entry.key.run_id, entry.key.lease_epoch)
        attempt = self.attempts.get(key)
        verdict = pb.Verdict(key=entry.key)
        if attempt is None or key in self.unknown:
            verdict.kind = pb.VERDICT_KIND_UNKNOWN
            return verdict
        verdict.resume_offset = attempt.digest.offset
        if attempt.state in ("FENCED", "REJECTED"):
            verdict.kind = pb.VERDICT_KIND_FENCED
            if entry.phase == pb.HELD_PHASE_EXITED:
                self._store_exit(attempt, entry.exit if entry.HasField("exit") else None)
                verdict.kind = pb.VERDICT_KIND_RELEASE
            return verdict
        verdict.renewed = True
        attempt.renewals += 1
        if entry.phase == pb.HELD_PHASE_EXITED:
            self._store_exit(attempt, entry.exit if entry.HasField("exit") else None)
            verdict.exit_stored = attempt.over
            verdict.kind = pb.VERDICT_KIND_KEEP if attempt.over else pb.VERDICT_KIND_SEND_EXIT
            if attempt.sealed:
                attempt.released = True
                verdict.kind = pb.VERDICT_KIND_RELEASE
        elif attempt.stop is not None:
            verdict.kind = pb.VERDICT_KIND_STOP
            verdict.stop.CopyFrom(attempt.stop)
        elif entry.phase == pb.HELD_PHASE_ACCEPTED:
            attempt.state = "STARTING"
            verdict.kind = pb.VERDICT_KIND_START
            verdict.assignment.CopyFrom(self.assignment(attempt))
        else:
            verdict.kind = pb.VERDICT_KIND_KEEP
            if entry.phase == pb.HELD_PHASE_RUNNING:
                attempt.state = "RUNNING"
        return verdict

    async def _offer_reply(self, reply: pb.OfferReply) -> None:
        self.replies.append(reply)
        attempt = self.attempts[reply.key.run_id, reply.key.lease_epoch]
        if not reply.accept:
            attempt.rejected = reply
            attempt.state = "REJECTED"
        elif attempt.state == "OFFERED":
            attempt.state = "STARTING"
            await self.say(assignment=self.assignment(attempt))

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
        self._store_exit(attempt, exited.exit)
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
        at = chunk.offset
        for record in chunk.records:
            if record.gap_bytes:
                attempt.digest.gap(at + record.gap_bytes)
                at += record.gap_bytes
                continue
            fresh = record.data[max(0, attempt.digest.offset - at) :]
            at += len(record.data)
            if fresh:
                attempt.digest.data(fresh)
                attempt.log += fresh
                attempt.records.append((record.kind, record.step, fresh))
        committed = attempt.digest.offset
        await self.say(log_ack=pb.LogAck(key=chunk.key, committed_offset=committed, window_bytes=self.window_bytes))
        await self._release_if_complete(attempt)

    async def _drain_notice(self, _: pb.DrainNotice) -> None:
        self.drain_notices += 1

    async def _release_if_complete(self, attempt: FakeAttempt) -> None:
        if attempt.sealed and not attempt.released:
            attempt.released = True
            await self.say(release=pb.Release(key=self._key(attempt.key)))

    def _store_exit(self, attempt: FakeAttempt, record: pb.ExitRecord | None) -> None:
        if record is not None and attempt.exit is None:
            attempt.exit = record
            attempt.state = "OVER"

    def _attempt(self, key: pb.AttemptKey) -> FakeAttempt:
        return self.attempts[key.run_id, key.lease_epoch]

    @staticmethod
    def _key(key: Key) -> pb.AttemptKey:
        return pb.AttemptKey(run_id=key[0], lease_epoch=key[1])

    def _issue(self, runner_id: str) -> tuple[str, Timestamp]:
        credential = f"credential-{len(self.credentials) + 1}"
        self.credentials[credential] = runner_id
        expires = Timestamp()
        expires.GetCurrentTime()
        expires.seconds += int(self.credential_lifetime_s)
        return credential, expires

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


def _signed(public_key: bytes, signature: bytes, text: str) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, text.encode())
    except (InvalidSignature, ValueError):
        return False
    return True


def _duration(value_s: float) -> Duration:
    made = Duration()
    made.FromNanoseconds(int(value_s * 1e9))
    return made


def command(*argv: str, **changes: Any) -> spec.RunSpec:
    """A spec of one MAIN step."""
    return spec.RunSpec(
        steps=[spec.Step(kind=spec.STEP_KIND_MAIN, command=spec.Command(argv=argv))], slots=1, **changes
    )


def shell(text: str, **changes: Any) -> spec.RunSpec:
    """A spec of one MAIN step that is a script for /bin/sh."""
    return spec.RunSpec(
        steps=[spec.Step(kind=spec.STEP_KIND_MAIN, command=spec.Command(script=text))], slots=1, **changes
    )


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
