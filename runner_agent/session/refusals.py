"""What the server's error statuses mean to the agent: come back later, ask for a new credential, or give up."""

from __future__ import annotations

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

REVOKED = "RUNNER_REVOKED"
EXIT_FORBIDDEN = 4
EXIT_CONFLICT = 6


class Refused(Exception):
    """The server will not have this agent, whatever it tries. The text is one sentence with the way out."""

    def __init__(self, sentence: str, *, exit_code: int = EXIT_FORBIDDEN) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason code (ErrorInfo) that came with an error; empty if none did."""
    return str(_info_of(error).reason)


def server_time_s(error: grpc.aio.AioRpcError) -> int | None:
    """The server's wall time (seconds since 1970), if it told it because ours is too far off."""
    told = _info_of(error).metadata.get("server_unix_s", "")
    return int(told) if told.isascii() and told.isdecimal() and len(told) < 12 else None


def _info_of(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    for detail in () if status is None else status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
            break
    return info


def is_auth(error: grpc.aio.AioRpcError) -> bool:
    """Whether it is about who we are."""
    return error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


def sentence_of(error: grpc.aio.AioRpcError) -> str:
    """The server's own words, in one line."""
    return " ".join((error.details() or error.code().name).split())


def if_revoked(error: grpc.aio.AioRpcError, credential_file: object) -> Refused | None:
    """The end, if the server says that this runner was revoked."""
    if reason_of(error) != REVOKED:
        return None
    return Refused(
        "The server has revoked this runner; to enrol it anew, remove "
        f"{credential_file} and start it with a fresh join token (banksman runner join-token create)."
    )
