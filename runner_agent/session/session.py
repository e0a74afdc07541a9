"""One life of the stream: one reader task, one writer task, nothing else touches the call."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

import grpc
from banksman.v1 import session_pb2 as wire

from runner_agent.domain.log import LogChunk
from runner_agent.domain.log_flow import LogTurn
from runner_agent.domain.messages import ServerMessage, Welcome
from runner_agent.outbox import Outbox, Parting
from runner_agent.session.convert import from_wire
from runner_agent.session.serialized import serialized

FAREWELL_S = 5.0

METHOD = "/banksman.v1.RunnerSessionService/Session"

Call = grpc.aio.StreamStreamCall[bytes, wire.SessionResponse]


class SessionHost(Protocol):
    """Who drives the attempts of this host: the reconciler."""

    async def session_opened(self, outbox: Outbox) -> None:
        """A stream is open; what is to be said goes into `outbox`."""

    async def session_closed(self, reason: str) -> None:
        """It has ended."""

    async def received(self, message: ServerMessage) -> None:
        """The server said something. Blocks while the host is behind, which holds the stream back."""

    async def read_log(self, turn: LogTurn) -> LogChunk | None:
        """The log bytes of a turn; None if there is nothing to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnd:
    """How a session ended. `error` is the status that the server or the transport gave, if any."""

    reason: str
    welcomed: bool
    parting: Parting | None = None
    error: grpc.aio.AioRpcError | None = None


class Session:
    """Runs one stream to its end."""

    def __init__(self, channel: grpc.aio.Channel, credential: str, host: SessionHost, outbox: Outbox) -> None:
        open_stream: grpc.aio.StreamStreamMultiCallable[bytes, wire.SessionResponse] = channel.stream_stream(
            METHOD, response_deserializer=wire.SessionResponse.FromString
        )
        self._call: Call = open_stream(metadata=(("authorization", f"Bearer {credential}"),))
        self._host = host
        self._outbox = outbox
        self._welcomed = False
        self._error: grpc.aio.AioRpcError | None = None

    async def run(self) -> SessionEnd:
        """Until the stream ends, by either side or by a fault. Never raises for what the network does."""
        try:
            await self._host.session_opened(self._outbox)
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(self._read(), name="session reader")
                tasks.create_task(self._write(reader), name="session writer")
        finally:
            self._call.cancel()
            self._outbox.close()
            await self._host.session_closed(self._reason())
        return SessionEnd(
            reason=self._reason(), welcomed=self._welcomed, parting=self._outbox.parting, error=self._error
        )

    async def _read(self) -> None:
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                assert isinstance(response, wire.SessionResponse)
                message = from_wire(response)
                self._welcomed = self._welcomed or isinstance(message, Welcome)
                await self._host.received(message)
            # A read that ends without an error can still have a status: a refused stream looks like this.
            code = await self._call.code()
            if code is not grpc.StatusCode.OK:
                self._error = await self._status(code)
        except grpc.aio.AioRpcError as error:
            self._error = error
        finally:
            self._outbox.close()

    async def _write(self, reader: asyncio.Task[None]) -> None:
        try:
            while (item := await self._outbox.take()) is not None:
                if isinstance(item, LogTurn):
                    await self._write_log(item)
                else:
                    await self._call.write(serialized(item))
            await self._call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the reader is told the same by the call, with its status
        finally:
            # Half-closed: the server ends its side soon. If it does not, the call is cut.
            asyncio.get_running_loop().call_later(FAREWELL_S, _cut, self._call, reader)

    async def _write_log(self, turn: LogTurn) -> None:
        chunk = await self._host.read_log(turn)
        if chunk is None or not chunk.records:
            self._outbox.flow.skip(turn.key)
            return
        # Counted before the write: an ack may overtake its return.
        self._outbox.sent(turn.key, offset=chunk.offset, end_offset=chunk.end_offset)
        await self._call.write(serialized(chunk))

    async def _status(self, code: grpc.StatusCode) -> grpc.aio.AioRpcError:
        return grpc.aio.AioRpcError(
            code,
            initial_metadata=grpc.aio.Metadata(),
            trailing_metadata=await self._call.trailing_metadata(),
            details=await self._call.details(),
        )

    def _reason(self) -> str:
        if self._outbox.parting is not None:
            return self._outbox.parting.reason
        if self._error is not None:
            return f"{self._error.code().name}: {self._error.details()}"
        return "the server ended the stream"


def _cut(call: Call, reader: asyncio.Task[None]) -> None:
    if not reader.done():
        call.cancel()
