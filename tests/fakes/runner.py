"""A runner played by a script: real gRPC, a real key, and nothing behind it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import grpc
from banksman.v1 import run_pb2, session_pb2_grpc
from banksman.v1 import session_pb2 as pb
from banksman.v1.log_pb2 import LOG_KIND_STDOUT, LogRecord
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.timestamp_pb2 import Timestamp

PATIENCE_S = 20.0


def stamp(seconds: int = 1_800_000_000) -> Timestamp:
    """A fixed instant; what a runner says of time changes no decision."""
    return Timestamp(seconds=seconds)


class Stream:
    """One open session: what the server said, by kind, and ways to answer."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self._said: dict[str, asyncio.Queue[Any]] = defaultdict(asyncio.Queue)
        self.ended = asyncio.Event()
        self.error: grpc.aio.AioRpcError | None = None

    async def read(self) -> None:
        """Sort what comes until the stream ends."""
        try:
            while (response := await self.call.read()) is not grpc.aio.EOF:
                kind = response.WhichOneof("message")
                self._said[kind].put_nowait(getattr(response, kind))
        except grpc.aio.AioRpcError as error:
            self.error = error
        finally:
            self.ended.set()

    async def expect(self, kind: str) -> Any:
        """The next message of a kind; fails when the server is silent for too long."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._said[kind].get()

    def has(self, kind: str) -> bool:
        """Whether a message of a kind has come and was not taken."""
        return not self._said[kind].empty()

    async def send(self, **message: Any) -> None:
        """Write one message, e.g. send(heartbeat=pb.Heartbeat(seq=1))."""
        await self.call.write(pb.SessionRequest(**message))

    async def gone(self) -> None:
        """Wait for the stream's end."""
        async with asyncio.timeout(PATIENCE_S):
            await self.ended.wait()

    async def accept(self) -> Any:
        """Take the next offer; answers with the Assignment."""
        offer = await self.expect("offer")
        await self.send(offer_reply=pb.OfferReply(key=offer.key, accept=True))
        return await self.expect("assignment")

    async def started(self, key: Any, pid: int = 4711) -> None:
        """Say that the first MAIN step was executed."""
        await self.send(attempt_started=pb.AttemptStarted(key=key, pid=pid, started_at=stamp()))

    async def chunk(self, key: Any, offset: int, *data: bytes) -> None:
        """Send log bytes."""
        records = [LogRecord(kind=LOG_KIND_STDOUT, at=stamp(), data=piece) for piece in data]
        await self.send(log_chunk=pb.LogChunk(key=key, offset=offset, records=records))

    async def exited(self, key: Any, record: Any) -> None:
        """Report an exit record."""
        await self.send(attempt_exited=pb.AttemptExited(key=key, exit=record))

    async def heartbeat(self, seq: int, *held: Any) -> Any:
        """Send a heartbeat and wait for its ack."""
        await self.send(heartbeat=pb.Heartbeat(seq=seq, held=held, free_slots=4))
        while (ack := await self.expect("heartbeat_ack")).seq != seq:
            pass
        return ack


def exit_record(code: int = 0, *, log: bytes = b"", digest: str = "", **more: Any) -> Any:
    """The record of a program that ended by itself."""
    well = code == 0
    words = {
        "outcome": pb.EXIT_OUTCOME_ENDED_WELL if well else pb.EXIT_OUTCOME_ENDED_BADLY,
        "reason": run_pb2.REASON_EXIT_ZERO if well else run_pb2.REASON_EXIT_NONZERO,
        "exit_code": code,
        "final_offset": len(log),
        "digest": digest,
        "log_counted": True,
        "tree_empty": True,
        "pid": 4711,
        "started_at": stamp(),
        "ended_at": stamp(1_800_000_001),
    }
    return pb.ExitRecord(**{**words, **more})


class ScriptedRunner:
    """An identity that can enrol, renew its credential and open sessions."""

    def __init__(self, target: str, *, name: str = "host-1", state_directory_id: str = "dir-1") -> None:
        self.channel = grpc.aio.insecure_channel(target)
        self.stub = session_pb2_grpc.RunnerSessionServiceStub(self.channel)
        self.key = Ed25519PrivateKey.generate()
        self.name, self.state_directory_id = name, state_directory_id
        self.runner_id = ""
        self.credential = ""

    async def enroll(self, join_token: str, *, replace: bool = False, labels: dict[str, str] | None = None) -> Any:
        """Redeem a join token with a proper signature."""
        answer = await self.stub.Enroll(
            pb.EnrollRequest(
                join_token=join_token,
                name=self.name,
                public_key=self.public_key,
                labels=labels or {},
                signature=self.key.sign(f"banksman-enroll\n{join_token}\n{self.name}".encode()),
                replace=replace,
            )
        )
        self.runner_id, self.credential = answer.runner_id, answer.credential
        return answer

    @property
    def public_key(self) -> bytes:
        """32 bytes."""
        return self.key.public_key().public_bytes_raw()

    def renewal(self, at_unix_s: int, nonce: bytes) -> Any:
        """A signed request for a new credential."""
        text = f"banksman-renew\n{self.runner_id}\n{at_unix_s}\n{nonce.hex()}"
        return pb.RenewCredentialRequest(
            runner_id=self.runner_id, at_unix_s=at_unix_s, nonce=nonce, signature=self.key.sign(text.encode())
        )

    def hello(self, **words: Any) -> Any:
        """A Hello with sensible words; say what is different."""
        usual = {
            "protocol_min": 1,
            "protocol_max": 1,
            "agent_version": "0-test",
            "slots": 4,
            "boot_id": "boot-1",
            "state_directory_id": self.state_directory_id,
            "labels": {"os": "linux"},
        }
        return pb.Hello(**{**usual, **words})

    @contextlib.asynccontextmanager
    async def stream(self, credential: str | None = None) -> AsyncIterator[Stream]:
        """An open stream on which nothing was said yet."""
        token = self.credential if credential is None else credential
        call = self.stub.Session(metadata=(("authorization", f"Bearer {token}"),) if token else ())
        stream = Stream(call)
        async with asyncio.TaskGroup() as group:
            group.create_task(stream.read(), name="scripted runner reads")
            try:
                yield stream
            finally:
                call.cancel()

    @contextlib.asynccontextmanager
    async def session(self, **words: Any) -> AsyncIterator[tuple[Stream, Any]]:
        """An open session and its Welcome."""
        async with self.stream() as stream:
            await stream.send(hello=self.hello(**words))
            yield stream, await stream.expect("welcome")

    async def close(self) -> None:
        """Close the channel."""
        await self.channel.close()
