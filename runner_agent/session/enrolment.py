"""Become known to the server with a join token, and keep a valid credential by signature."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from banksman.v1 import session_pb2 as wire
from banksman.v1 import session_pb2_grpc

from runner_agent.clock import Clock
from runner_agent.session import credential_file
from runner_agent.session.credential_file import RunnerIdentity
from runner_agent.session.refusals import EXIT_CONFLICT, Refused, if_revoked, is_auth, sentence_of, server_time_s

CALL_TIMEOUT_S = 20.0
RENEW_BEFORE_S = 120.0
_SECOND_NS = 1_000_000_000

if TYPE_CHECKING:
    _Stub = session_pb2_grpc.RunnerSessionServiceAsyncStub


class Enrolment:
    """Holds this runner's identity. Every change is on disk before it is used."""

    def __init__(
        self,
        *,
        path: Path,
        clock: Clock,
        name: str,
        labels: Mapping[str, str],
        join_token: Callable[[], str],
        replace_name: bool,
    ) -> None:
        self.path = path
        self._clock = clock
        self._server_ahead_s = 0
        self._name = name
        self._labels = dict(labels)
        self._join_token = join_token
        self._replace_name = replace_name
        self._identity = credential_file.load(path)

    @property
    def identity(self) -> RunnerIdentity | None:
        """What is on disk."""
        return self._identity

    async def credential(self, channel: grpc.aio.Channel, *, renew: bool = False) -> str:
        """A credential that should be accepted: enrols at first, renews when it is about to end or when told to.

        Raises Refused (give up), AioRpcError (try again later).
        """
        stub = session_pb2_grpc.RunnerSessionServiceStub(channel)
        if self._identity is None or not self._identity.enrolled:
            return (await self._enrol(stub)).credential
        left_s = self._identity.expires_at_s - self._server_s()
        if renew:
            return (await self._renew(stub, self._identity)).credential
        if left_s < RENEW_BEFORE_S:
            try:
                return (await self._renew(stub, self._identity)).credential
            except grpc.aio.AioRpcError as error:
                # Our clock may be wrong rather than the credential: the server says at the session which it is.
                if not is_auth(error):
                    raise
        return self._identity.credential

    async def _enrol(self, stub: _Stub) -> RunnerIdentity:
        token = self._join_token()
        if not token:
            raise Refused(
                f"This runner is not enrolled ({self.path} does not exist) and no join token was given; make one with "
                "`banksman runner join-token create` and pass it with --join-token-file or --join-token-stdin."
            )
        identity = self._identity or credential_file.new_identity(self._name)
        # The key is kept before the token is spent: a crash in between asks with the same key again.
        self._keep(replace(identity, name=self._name))
        request = wire.EnrollRequest(
            join_token=token,
            name=self._name,
            public_key=identity.public_key,
            labels=self._labels,
            signature=identity.sign(f"banksman-enroll\n{token}\n{self._name}"),
            replace=self._replace_name,
        )
        try:
            answer = await stub.Enroll(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise _enrolment_refused(error, self._name) or error from None
        return self._keep(
            replace(
                identity,
                name=self._name,
                runner_id=answer.runner_id,
                credential=answer.credential,
                expires_at_s=answer.credential_expires_at.seconds,
            )
        )

    def _server_s(self) -> int:
        """The server's wall time, as far as we know: ours, until it has told us that they are too far apart."""
        return self._clock.wall_ns() // _SECOND_NS + self._server_ahead_s

    async def _renew(self, stub: _Stub, identity: RunnerIdentity) -> RunnerIdentity:
        try:
            return await self._renew_at(stub, identity, self._server_s())
        except grpc.aio.AioRpcError as error:
            told_s = server_time_s(error)
            if told_s is None:
                raise
        # Which of the two clocks was set does not matter: the key is the identity, not the time.
        self._server_ahead_s += told_s - self._server_s()
        return await self._renew_at(stub, identity, told_s)

    async def _renew_at(self, stub: _Stub, identity: RunnerIdentity, at_s: int) -> RunnerIdentity:
        nonce = secrets.token_bytes(16)
        request = wire.RenewCredentialRequest(
            runner_id=identity.runner_id,
            at_unix_s=at_s,
            nonce=nonce,
            signature=identity.sign(f"banksman-renew\n{identity.runner_id}\n{at_s}\n{nonce.hex()}"),
        )
        try:
            answer = await stub.RenewCredential(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise if_revoked(error, self.path) or error from None
        return self._keep(replace(identity, credential=answer.credential, expires_at_s=answer.expires_at.seconds))

    def _keep(self, identity: RunnerIdentity) -> RunnerIdentity:
        credential_file.save(self.path, identity)
        self._identity = identity
        return identity


def _enrolment_refused(error: grpc.aio.AioRpcError, name: str) -> Refused | None:
    said = sentence_of(error)
    if is_auth(error) or error.code() is grpc.StatusCode.FAILED_PRECONDITION:
        return Refused(
            f"The server refused the join token ({said}); make a new one with `banksman runner join-token create`."
        )
    if error.code() is grpc.StatusCode.ALREADY_EXISTS:
        return Refused(
            f"The server already has a runner named {name!r} ({said}); choose another --name, or take its place with "
            "--replace.",
            exit_code=EXIT_CONFLICT,
        )
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        return Refused(f"The server refused to enrol this runner: {said}.", exit_code=2)
    return None
