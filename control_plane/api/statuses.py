"""Errors as google.rpc.Status: the catalogue's status, an ErrorInfo with the stable code, and one typed detail."""

from __future__ import annotations

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from control_plane.domain.errors import CATALOGUE, BanksmanError

DOMAIN = "banksman"
# Details travel as a header, and gRPC refuses headers of more than 16 KiB in all: both texts and lists are cut.
MOST_TEXT = 1_000
MOST_VIOLATIONS = 40
MOST_DETAIL_BYTES = 6_000


def status_of(error: BanksmanError) -> status_pb2.Status:
    """The whole answer for an error: at most about 7 kB."""
    entry = CATALOGUE[error.code]
    status = status_pb2.Status(code=code_pb2.Code.Value(entry.status), message=_cut(error.message))
    info = error_details_pb2.ErrorInfo(reason=error.code.value, domain=DOMAIN)
    info.metadata.update({key: _cut(value) for key, value in error.metadata.items()})
    info.metadata["http_status"] = str(entry.http_status)
    _add(status, info)
    typed = _typed_detail(error, entry.status)
    if typed is not None:
        _add(status, typed)
    if error.hint:
        _add(status, error_details_pb2.Help(links=[error_details_pb2.Help.Link(description=_cut(error.hint))]))
    return status


def to_grpc(error: BanksmanError) -> grpc.Status:
    """For ServicerContext.abort_with_status."""
    answer: grpc.Status = rpc_status.to_status(status_of(error))
    return answer


def _typed_detail(error: BanksmanError, status: str) -> Message | None:
    if error.violations:
        return _bad_request(error)
    if status == "FAILED_PRECONDITION":
        violation = error_details_pb2.PreconditionFailure.Violation(
            type=error.code.value, subject=error.metadata.get("subject", ""), description=_cut(error.message)
        )
        failure: Message = error_details_pb2.PreconditionFailure(violations=[violation])
        return failure
    if "resource" in error.metadata:
        resource: Message = error_details_pb2.ResourceInfo(
            resource_type=error.metadata.get("resource_type", ""), resource_name=error.metadata["resource"]
        )
        return resource
    return None


def _bad_request(error: BanksmanError) -> Message:
    detail = error_details_pb2.BadRequest()
    for violation in error.violations[:MOST_VIOLATIONS]:
        entry = detail.field_violations.add(field=_cut(violation.field), description=_cut(violation.description))
        if detail.ByteSize() > MOST_DETAIL_BYTES:
            detail.field_violations.remove(entry)
            break
    answer: Message = detail
    return answer


def _add(status: status_pb2.Status, detail: Message) -> None:
    packed = Any()
    packed.Pack(detail)
    status.details.append(packed)


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"
