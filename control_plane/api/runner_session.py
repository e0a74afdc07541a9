"""The switchboard of a runner's stream: every message to the room that knows what it means, and answers back.

One task reads and one writes; nothing else touches the stream. No work leaves before the Welcome.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator

import grpc
from banksman.v1 import session_pb2

from control_plane.api.interceptors import Context
from control_plane.api.reception import Reception
from control_plane.api.session_messages import from_runner, to_runner
from control_plane.config import Settings
from control_plane.dispatch.outbox import Outbox
from control_plane.dispatch.sessions import LiveSession
from control_plane.dispatch.turns import Turns
from control_plane.domain.copies import replace
from control_plane.domain.errors import (
    BanksmanError,
    ErrorCode,
    FieldViolation,
    PermissionDenied,
    ResourceExhausted,
    invalid_fields,
)
from control_plane.domain.ids import Holder
from control_plane.domain.principal import Caller
from control_plane.domain.session import FromRunner, Goodbye, Hello, ToRunner
from control_plane.telemetry import logger

log = logger("api")

# Of a session that ends, the last word must be out by then.
LAST_WORD_S = 2.0
# 500 entries a page.
MOST_PAGES = 40

Requests = AsyncIterator[session_pb2.SessionRequest]


class Stream:
    """One life of one runner's stream.

    Args:
        caller: the runner, from its verified credential, never from a message.
    """

    def __init__(self, caller: Caller, context: Context, reception: Reception, settings: Settings) -> None:
        if caller.runner_id is None:
            raise PermissionDenied(ErrorCode.METHOD_FORBIDDEN)
        self._runner_id, self._generation = caller.runner_id, caller.credential_generation
        self._context = context
        self._reception, self._settings = reception, settings
        self._outbox: Outbox[session_pb2.SessionResponse] = Outbox(
            limit_bytes=settings.outbox_bytes, weigh=lambda message: message.ByteSize()
        )
        self._writer: asyncio.Task[None] | None = None
        # Why the stream is refused, if it is.
        self._fault: BanksmanError | None = None

    async def run(self, requests: Requests) -> None:
        """Serve until either side ends it. Raises BanksmanError when the runner broke the protocol."""
        try:
            await self._live(requests)
        except asyncio.CancelledError as error:
            # A task group keeps the error that goes through it, and that keeps the frames, with all that they hold.
            traceback.clear_frames(error.__traceback__)
            raise
        finally:
            self._writer = None

    async def _live(self, requests: Requests) -> None:
        name = f"session {self._runner_id}"
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._read(requests, group), name=f"{name} reader")
            self._writer = group.create_task(self._write(), name=f"{name} writer")
            await asyncio.wait({reader, self._writer}, return_when=asyncio.FIRST_COMPLETED)
            self._outbox.close()
            await asyncio.wait({self._writer}, timeout=LAST_WORD_S)
            reader.cancel()
            self._writer.cancel()
        if self._fault is not None:
            raise self._fault

    def _put(self, message: ToRunner, log_lane: bool) -> bool:
        return self._outbox.put(to_runner(message), log=log_lane)

    def _end(self, goodbye: Goodbye) -> None:
        """Say goodbye; a writer that a slow runner holds up is not waited for."""
        self._outbox.close(to_runner(goodbye))
        if self._writer is not None:
            asyncio.get_running_loop().call_later(LAST_WORD_S, self._writer.cancel)

    async def _write(self) -> None:
        while (message := await self._outbox.take()) is not None:
            try:
                await self._context.write(message)
            except grpc.aio.BaseError:
                return

    async def _read(self, requests: Requests, group: asyncio.TaskGroup) -> None:
        session: LiveSession | None = None
        try:
            async with asyncio.timeout(self._settings.hello_timeout_s):
                hello = await self._hello(requests)
            if hello is None:
                return
            holder = Holder(runner_id=self._runner_id, state_directory_id=hello.state_directory_id)
            session = LiveSession(holder, put=self._put, end=self._end)
            await self._serve(session, hello, requests, Turns(group, name=f"runner {self._runner_id}"))
        except TimeoutError:
            self._end(Goodbye(reason="HELLO_TIMEOUT"))
        except BanksmanError as error:
            log.warning("session refused", runner=self._runner_id, error=str(error))
            self._fault = error
        except grpc.aio.BaseError:
            log.info("stream broke", runner=self._runner_id)
        finally:
            if session is not None:
                await self._reception.left(session)

    async def _serve(self, session: LiveSession, hello: Hello, requests: Requests, turns: Turns) -> None:
        await self._reception.greet(session, hello, self._generation)
        async for request in requests:
            message = from_runner(request)
            if message is not None:
                await self._reception.take(session, message, turns)

    async def _hello(self, requests: Requests) -> Hello | None:
        """The first message with all its pages; None when the runner left before it was complete."""
        pages: list[Hello] = []
        async for request in requests:
            message: FromRunner | None = from_runner(request)
            if not isinstance(message, Hello):
                raise _broken("message", "must be a Hello before anything else")
            pages.append(message)
            if not message.more:
                return _joined(pages)
            if len(pages) >= MOST_PAGES:
                raise ResourceExhausted(ErrorCode.QUEUE_FULL, "The inventory has too many pages.")
        return None


def _joined(pages: list[Hello]) -> Hello:
    """One Hello with the inventory of all pages; everything else is the last page's."""
    inventory = tuple(entry for page in pages for entry in page.inventory)
    return replace(pages[-1], inventory=inventory, more=False)


def _broken(field: str, what: str) -> BanksmanError:
    return invalid_fields(FieldViolation(field=field, description=what))
