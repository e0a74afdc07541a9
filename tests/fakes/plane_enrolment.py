"""The fake control plane's door for runners that join, renew, or are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
from banksman.v1 import session_pb2 as pb
from banksman.v1 import session_pb2_grpc
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status


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


class FakeEnrolment(session_pb2_grpc.RunnerSessionServiceServicer):
    """Who has joined, by which key, and which credentials are good."""

    def __init__(self) -> None:
        self.join_tokens = {"join-1"}
        self.runners: dict[str, bytes] = {}
        self.credentials: dict[str, str] = {}
        self.credential_lifetime_s = 3_600.0
        self.refuse_enrol: Refusal | None = None
        self.refuse_renew: Refusal | None = None

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

    def _issue(self, runner_id: str) -> tuple[str, Timestamp]:
        credential = f"credential-{len(self.credentials) + 1}"
        self.credentials[credential] = runner_id
        expires = Timestamp()
        expires.GetCurrentTime()
        expires.seconds += int(self.credential_lifetime_s)
        return credential, expires


def _signed(public_key: bytes, signature: bytes, text: str) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, text.encode())
    except (InvalidSignature, ValueError):
        return False
    return True
