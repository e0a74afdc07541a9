"""The gate that every call passes: who calls, may they, and what they are told when it goes wrong."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Protocol

import grpc

from control_plane.api.acts import act_of, admit, refused
from control_plane.api.statuses import to_grpc
from control_plane.api.turned_away import TurnedAway, host_of
from control_plane.api.visits import Visit, Visits
from control_plane.auth import access
from control_plane.clock import Clock
from control_plane.domain.errors import (
    BanksmanError,
    ErrorCode,
    Internal,
    PermissionDenied,
    Unauthenticated,
)
from control_plane.domain.principal import Caller
from control_plane.lifecycle import audit
from control_plane.lifecycle.denials import Denials
from control_plane.telemetry import begin_call, logger

log = logger("api")

AUTHORIZATION = "authorization"
WAITS = frozenset({"/banksman.v1.RunService/WaitRun", "/grpc.health.v1.Health/Watch"})
# A call that is open longer than this has its caller looked at again.
RECHECK_S = 2.0
_CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)

Context = grpc.aio.ServicerContext[Any, Any]
# gRPC's own: the call was aborted, or is gone.
PASSED_ON = (grpc.aio.AbortError, grpc.aio.BaseError)


class Authenticates(Protocol):
    """Turns the words of an authorization header into the caller."""

    async def caller(self, authorization: str) -> Caller: ...


def current_caller() -> Caller:
    """Who makes the call that this task serves; only for methods that need a caller."""
    caller = _CALLER.get()
    if caller is None:
        raise Unauthenticated(ErrorCode.TOKEN_MISSING)
    return caller


class Wakeups(Protocol):
    """Wakes whoever waits when something changed, or the time is up."""

    async def wait(self, timeout_s: float | None = None) -> bool: ...


def _given(metadata: tuple[Any, ...]) -> list[Any]:
    return [value for key, value in metadata if key == AUTHORIZATION]


class Gate(grpc.aio.ServerInterceptor):
    """Outermost interceptor: authenticate, check access, translate errors, log what failed."""

    def __init__(
        self,
        authenticator: Authenticates,
        clock: Clock,
        visits: Visits | None = None,
        denials: Denials | None = None,
    ) -> None:
        self._authenticator, self._clock, self._denials = authenticator, clock, denials
        self._visits = visits or Visits()
        self._turned_away = TurnedAway(clock.monotonic_s)

    def stop_waiting(self) -> None:
        """End every call that only waits or follows; its caller is told to come again."""
        self._visits.end_all()

    async def watch_over(self, wakeups: Wakeups) -> None:
        """Until cancelled: look after open calls every few seconds, and at once when a token was revoked."""
        while True:
            await wakeups.wait(RECHECK_S)
            try:
                await self._visits.recheck(self._authenticator.caller)
                self._turned_away.tell()
                if self._denials is not None:
                    await self._denials.flush()
            except Exception:  # one bad look must not be the last one
                log.exception("open calls could not be checked again")

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the method's behaviour; the shape (unary, stream) stays as it is."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        method = handler_call_details.method
        metadata = tuple(handler_call_details.invocation_metadata or ())
        return self._wrapped(handler, method, metadata)

    def _wrapped(self, handler: Any, method: str, metadata: tuple[Any, ...]) -> Any:
        shape = (handler.request_streaming, handler.response_streaming)
        behaviour, make = {
            (False, False): (handler.unary_unary, grpc.unary_unary_rpc_method_handler),
            (False, True): (handler.unary_stream, grpc.unary_stream_rpc_method_handler),
            (True, False): (handler.stream_unary, grpc.stream_unary_rpc_method_handler),
            (True, True): (handler.stream_stream, grpc.stream_stream_rpc_method_handler),
        }[shape]
        wrap = self._generator if inspect.isasyncgenfunction(behaviour) else self._coroutine
        return make(wrap(behaviour, method, metadata), handler.request_deserializer, handler.response_serializer)

    def _coroutine(self, behaviour: Any, method: str, metadata: tuple[Any, ...]) -> Any:
        async def call(request: Any, context: Context) -> Any:
            try:
                caller = await self._admit(method, metadata, request, context)
                if method not in WAITS:
                    return await behaviour(request, context)
                with self._visit(caller, metadata, context):
                    return await behaviour(request, context)
            except PASSED_ON:
                raise
            except Exception as error:  # noqa: BLE001 the last line of defence: nothing of it may reach the caller
                answer = self._answer(error, context)
            # The library's error stays, with this frame, until the garbage collector comes by: not so a large request.
            del request
            return await context.abort_with_status(answer)

        return call

    def _generator(self, behaviour: Any, method: str, metadata: tuple[Any, ...]) -> Any:
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                caller = await self._admit(method, metadata, request, context)
                with self._visit(caller, metadata, context) as visit:
                    async with contextlib.aclosing(behaviour(request, context)) as items:
                        async for item in items:
                            visit.writing = True
                            yield item
                            visit.written()
                    return
            except PASSED_ON:
                raise
            except Exception as error:  # noqa: BLE001 the last line of defence: nothing of it may reach the caller
                answer = self._answer(error, context)
            await context.abort_with_status(answer)

        return call

    def _visit(
        self, caller: Caller | None, metadata: tuple[Any, ...], context: Context
    ) -> contextlib.AbstractContextManager[Visit]:
        authorization = "" if caller is None else _given(metadata)[0]
        return self._visits.visit(authorization=authorization, caller=caller, peer=host_of(context.peer()))

    async def _admit(self, method: str, metadata: tuple[Any, ...], request: Any, context: Context) -> Caller | None:
        begin_call(method=method)
        _CALLER.set(None)
        act = act_of(method, host_of(context.peer()), request)
        audit.begin(act)
        if access.is_open(method):
            return None
        given = _given(metadata)
        if len(given) != 1 or not isinstance(given[0], str):
            raise Unauthenticated(ErrorCode.TOKEN_INVALID if given else ErrorCode.TOKEN_MISSING)
        caller = await self._authenticator.caller(given[0])
        admit(act, caller)
        access.check(method, caller)
        _CALLER.set(caller)
        begin_call(method=method, principal=caller.principal.name)
        return caller

    def _answer(self, error: Exception, context: Context) -> grpc.Status:
        """What the caller is told; an error of ours in full, of any other only a number to quote."""
        act = audit.current()
        if isinstance(error, BanksmanError) and self._denials is not None and act is not None:
            refused(self._denials, act, error)
        if isinstance(error, Unauthenticated | PermissionDenied):
            self._turned_away.note(context.peer(), error.code.value)
            return to_grpc(error)
        if isinstance(error, BanksmanError):
            log.debug("refused", code=error.code.value)
            return to_grpc(error)
        incident = self._clock.new_id()
        log.error("unexpected error in a call", incident=incident, exc_info=error)
        text = f"Something went wrong inside the control plane (incident {incident})."
        return to_grpc(Internal(ErrorCode.INTERNAL, text, metadata={"incident": incident}))
