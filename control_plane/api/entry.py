"""RunnerSessionService: how a runner gets its identity, keeps it, and opens its stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial

from banksman.v1 import session_pb2, session_pb2_grpc

from control_plane.api.desk import Desk
from control_plane.api.interceptors import Context, current_caller
from control_plane.api.mapping import timestamp
from control_plane.api.runner_session import Stream
from control_plane.api.uploads import answers
from control_plane.auth.signatures import NONCE_BYTES, ReplayWindow, enrolment_text, is_signed, renewal_text
from control_plane.auth.tokens import TokenKind, digest, kind_of
from control_plane.dispatch.sessions import REVOKED
from control_plane.domain.errors import ErrorCode, FieldViolation, Unauthenticated, invalid_fields
from control_plane.domain.ids import RunnerId
from control_plane.domain.runner import Runner
from control_plane.lifecycle import audit, runners
from control_plane.storage import reads


class RunnerSessionServicer(session_pb2_grpc.RunnerSessionServiceServicer):
    """The door for agents."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._window = ReplayWindow()

    async def Enroll(self, request: session_pb2.EnrollRequest, context: Context) -> session_pb2.EnrollResponse:
        runner = await runners.enrol(self._desk.house, _enrolment(request))
        # Whoever had the name is somebody else now; the same host asking again opens a new stream anyway.
        self._desk.sessions.end(runner.id, REVOKED)
        credential, expires_at = self._desk.press.issue(runner, self._desk.house.clock.now())
        return session_pb2.EnrollResponse(
            runner_id=runner.id, credential=credential, credential_expires_at=timestamp(expires_at)
        )

    async def RenewCredential(
        self, request: session_pb2.RenewCredentialRequest, context: Context
    ) -> session_pb2.RenewCredentialResponse:
        runner = await self._proven(request)
        self._renewed(runner)
        credential, expires_at = self._desk.press.issue(runner, self._desk.house.clock.now())
        return session_pb2.RenewCredentialResponse(credential=credential, expires_at=timestamp(expires_at))

    async def Session(  # type: ignore[override]  # it writes by itself: a generator could not read and write at once
        self, request_iterator: AsyncIterator[session_pb2.SessionRequest], context: Context
    ) -> None:
        stream = Stream(current_caller(), context, self._desk.reception, self._desk.settings)
        await stream.run(request_iterator)

    async def UploadArtifact(
        self, request_iterator: AsyncIterator[session_pb2.UploadArtifactRequest], context: Context
    ) -> AsyncIterator[session_pb2.UploadArtifactResponse]:
        async with aclosing(answers(self._desk.intake, current_caller(), request_iterator)) as said:
            async for answer in said:
                yield answer

    def _renewed(self, runner: Runner) -> None:
        """It writes nothing, so that it works with a full disk, too: the trail learns of it with the next batch."""
        act = audit.current()
        if act is not None:
            act.principal_id, act.principal = runner.id, runner.name
            act.touch(runner)
            self._desk.denials.done(act)

    async def _proven(self, request: session_pb2.RenewCredentialRequest) -> Runner:
        """The runner whose key signed this, now and for the first time. Raises Unauthenticated, PermissionDenied."""
        if len(request.nonce) not in NONCE_BYTES:
            raise invalid_fields(FieldViolation(field="nonce", description="must be 16 to 64 bytes"))
        now_s = self._desk.house.clock.now().timestamp()
        runner = await self._desk.read(partial(reads.runner, runner_id=RunnerId(request.runner_id)))
        if runner is None:
            raise Unauthenticated(ErrorCode.SIGNATURE_INVALID)
        text = renewal_text(runner.id, request.at_unix_s, request.nonce)
        if not is_signed(runner.public_key, request.signature, text):
            raise Unauthenticated(ErrorCode.SIGNATURE_INVALID)
        if not self._window.is_fresh(request.at_unix_s, now_s):
            raise Unauthenticated(
                ErrorCode.SIGNATURE_INVALID,
                f"The clocks of the runner's host and of the server are {abs(now_s - request.at_unix_s):.0f} s apart.",
                hint="Set the clock that is wrong; a runner goes by the server's until then.",
                metadata={"server_unix_s": str(int(now_s))},
            )
        if not self._window.use(runner.id, request.nonce, now_s):
            raise Unauthenticated(ErrorCode.SIGNATURE_INVALID, "The signature was used before.")
        return await runners.renew(self._desk.house, runner.id)


def _enrolment(request: session_pb2.EnrollRequest) -> runners.Enrolment:
    """Raises Unauthenticated when the token cannot be one, or the key did not sign."""
    if kind_of(request.join_token) is not TokenKind.JOIN:
        raise Unauthenticated(ErrorCode.JOIN_TOKEN_INVALID)
    if not is_signed(request.public_key, request.signature, enrolment_text(request.join_token, request.name)):
        raise Unauthenticated(ErrorCode.SIGNATURE_INVALID)
    return runners.Enrolment(
        join_digest=digest(request.join_token),
        name=request.name,
        public_key=request.public_key,
        labels=dict(request.labels),
        replace=request.replace,
    )
