"""Errors as statuses: the stable code, one typed detail, and never too large for a header."""

import pytest
from google.rpc import code_pb2, error_details_pb2

from control_plane.api.statuses import status_of, to_grpc
from control_plane.domain import errors
from control_plane.domain.errors import CATALOGUE, BanksmanError, ErrorCode, FieldViolation, invalid_fields

CLASSES = {cls.status: cls for cls in BanksmanError.__subclasses__()}


def detail(status, cls):
    found = [any_ for any_ in status.details if any_.Is(cls.DESCRIPTOR)]
    if not found:
        return None
    message = cls()
    found[0].Unpack(message)
    return message


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_of_the_catalogue_becomes_a_status(code):
    entry = CATALOGUE[code]
    status = status_of(CLASSES[entry.status](code))
    info = detail(status, error_details_pb2.ErrorInfo)
    assert code_pb2.Code.Name(status.code) == entry.status
    assert (info.reason, info.domain) == (code.value, "banksman")
    assert info.metadata["http_status"] == str(entry.http_status)
    assert status.message == entry.text
    assert to_grpc(CLASSES[entry.status](code)).code.name == entry.status


def test_every_offending_field_is_named():
    status = status_of(
        invalid_fields(FieldViolation(field="a.b", description="bad"), FieldViolation(field="c", description="worse"))
    )
    violations = detail(status, error_details_pb2.BadRequest).field_violations
    assert [(each.field, each.description) for each in violations] == [("a.b", "bad"), ("c", "worse")]


def test_a_precondition_names_itself_and_a_hint_is_help():
    error = errors.FailedPrecondition(ErrorCode.RUN_FINISHED, hint="banksman run get r1")
    status = status_of(error)
    assert detail(status, error_details_pb2.PreconditionFailure).violations[0].type == "RUN_FINISHED"
    assert detail(status, error_details_pb2.Help).links[0].description == "banksman run get r1"


def test_no_answer_outgrows_a_header():
    many = [FieldViolation(field="f" * 5_000, description="d" * 5_000) for _ in range(500)]
    error = invalid_fields(*many)
    assert status_of(error).ByteSize() < 8_192
    assert sum(len(value) for _, value in to_grpc(error).trailing_metadata) < 8_192
