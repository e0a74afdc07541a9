"""Every error that leaves the product: a stable code, its gRPC and HTTP status, and what a person reads.

BanksmanError
  InvalidArgument  NotFound  AlreadyExists  FailedPrecondition  Aborted  Unauthenticated
  PermissionDenied  OutOfRange  ResourceExhausted  Unavailable  Internal
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class ErrorCode(StrEnum):
    INVALID_FIELDS = "INVALID_FIELDS"
    PAGE_TOKEN_INVALID = "PAGE_TOKEN_INVALID"
    RESUME_TOKEN_INVALID = "RESUME_TOKEN_INVALID"
    SECRET_UNKNOWN = "SECRET_UNKNOWN"
    AMBIGUOUS_ID = "AMBIGUOUS_ID"
    PROJECT_NOT_FOUND = "PROJECT_NOT_FOUND"
    TASK_NOT_FOUND = "TASK_NOT_FOUND"
    TEMPLATE_NOT_FOUND = "TEMPLATE_NOT_FOUND"
    RUN_NOT_FOUND = "RUN_NOT_FOUND"
    ATTEMPT_NOT_FOUND = "ATTEMPT_NOT_FOUND"
    RUNNER_NOT_FOUND = "RUNNER_NOT_FOUND"
    SCHEDULE_NOT_FOUND = "SCHEDULE_NOT_FOUND"
    PRINCIPAL_NOT_FOUND = "PRINCIPAL_NOT_FOUND"
    TOKEN_NOT_FOUND = "TOKEN_NOT_FOUND"
    JOIN_TOKEN_NOT_FOUND = "JOIN_TOKEN_NOT_FOUND"
    SECRET_NOT_FOUND = "SECRET_NOT_FOUND"
    DELIVERY_NOT_FOUND = "DELIVERY_NOT_FOUND"
    REPORT_NOT_FOUND = "REPORT_NOT_FOUND"
    ARTIFACT_NOT_FOUND = "ARTIFACT_NOT_FOUND"
    NAME_TAKEN = "NAME_TAKEN"
    RUNNER_NAME_TAKEN = "RUNNER_NAME_TAKEN"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    RUN_FINISHED = "RUN_FINISHED"
    RUN_ACTIVE = "RUN_ACTIVE"
    COUNT_DIFFERS = "COUNT_DIFFERS"
    TASK_INACTIVE = "TASK_INACTIVE"
    TASK_HAS_ACTIVE_RUNS = "TASK_HAS_ACTIVE_RUNS"
    TASK_DELETED = "TASK_DELETED"
    TASK_NOT_DELETED = "TASK_NOT_DELETED"
    LAUNCHER_UNAVAILABLE = "LAUNCHER_UNAVAILABLE"
    VARIABLES_GONE = "VARIABLES_GONE"
    PROJECT_NOT_EMPTY = "PROJECT_NOT_EMPTY"
    SCHEDULE_ENDED = "SCHEDULE_ENDED"
    SCHEDULE_PAUSED = "SCHEDULE_PAUSED"
    TASK_HAS_SCHEDULES = "TASK_HAS_SCHEDULES"
    LAST_ADMIN = "LAST_ADMIN"
    RUNNER_CONNECTED = "RUNNER_CONNECTED"
    SECRET_IN_USE = "SECRET_IN_USE"
    LIMIT_REACHED = "LIMIT_REACHED"
    JOIN_TOKEN_USED = "JOIN_TOKEN_USED"
    LABEL_NOT_GRANTED = "LABEL_NOT_GRANTED"
    PROTOCOL_UNSUPPORTED = "PROTOCOL_UNSUPPORTED"
    SESSION_SUPERSEDED = "SESSION_SUPERSEDED"
    ETAG_MISMATCH = "ETAG_MISMATCH"
    CONCURRENT_CHANGE = "CONCURRENT_CHANGE"
    TOKEN_MISSING = "TOKEN_MISSING"
    TOKEN_INVALID = "TOKEN_INVALID"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"
    TOKEN_REVOKED = "TOKEN_REVOKED"
    PRINCIPAL_DISABLED = "PRINCIPAL_DISABLED"
    JOIN_TOKEN_INVALID = "JOIN_TOKEN_INVALID"
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    CREDENTIAL_EXPIRED = "CREDENTIAL_EXPIRED"
    RUNNER_REVOKED = "RUNNER_REVOKED"
    NOT_ADMIN = "NOT_ADMIN"
    PROJECT_FORBIDDEN = "PROJECT_FORBIDDEN"
    METHOD_FORBIDDEN = "METHOD_FORBIDDEN"
    RESUME_TOKEN_EXPIRED = "RESUME_TOKEN_EXPIRED"
    LOG_EXPIRED = "LOG_EXPIRED"
    OFFSET_BEYOND_END = "OFFSET_BEYOND_END"
    QUEUE_FULL = "QUEUE_FULL"
    TOO_MANY_STREAMS = "TOO_MANY_STREAMS"
    STORAGE_FULL = "STORAGE_FULL"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    ACCESS_CHANGED = "ACCESS_CHANGED"
    STORAGE_UNAVAILABLE = "STORAGE_UNAVAILABLE"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldViolation:
    """One offending field, as a path in the request (`spec.steps[0].command.argv[1]`), and what is wrong with it."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """gRPC status by name, HTTP status, and the public sentence."""

    status: str
    http_status: int
    text: str


_C = ErrorCode
_E = CatalogueEntry
CATALOGUE: Mapping[ErrorCode, CatalogueEntry] = {
    _C.INVALID_FIELDS: _E("INVALID_ARGUMENT", 400, "The request has fields that are not valid."),
    _C.PAGE_TOKEN_INVALID: _E("INVALID_ARGUMENT", 400, "The page token does not belong to this list."),
    _C.RESUME_TOKEN_INVALID: _E("INVALID_ARGUMENT", 400, "The resume token does not belong to this watch."),
    _C.SECRET_UNKNOWN: _E("INVALID_ARGUMENT", 400, "The request refers to a secret that its project does not have."),
    _C.PROJECT_NOT_FOUND: _E("NOT_FOUND", 404, "There is no such project."),
    _C.TASK_NOT_FOUND: _E("NOT_FOUND", 404, "There is no such task."),
    _C.TEMPLATE_NOT_FOUND: _E("NOT_FOUND", 404, "There is no such template, or no such version of it."),
    _C.RUN_NOT_FOUND: _E("NOT_FOUND", 404, "There is no such run."),
    _C.ATTEMPT_NOT_FOUND: _E("NOT_FOUND", 404, "There is no such attempt."),
    _C.RUNNER_NOT_FOUND: _E("NOT_FOUND", 404, "There is no such runner."),
    _C.SCHEDULE_NOT_FOUND: _E("NOT_FOUND", 404, "There is no such schedule."),
    _C.PRINCIPAL_NOT_FOUND: _E("NOT_FOUND", 404, "There is no such principal."),
    _C.TOKEN_NOT_FOUND: _E("NOT_FOUND", 404, "There is no such token."),
    _C.JOIN_TOKEN_NOT_FOUND: _E("NOT_FOUND", 404, "There is no such join token."),
    _C.SECRET_NOT_FOUND: _E("NOT_FOUND", 404, "There is no such secret."),
    _C.DELIVERY_NOT_FOUND: _E("NOT_FOUND", 404, "There is no such notification."),
    _C.REPORT_NOT_FOUND: _E("NOT_FOUND", 404, "The run has no such report."),
    _C.ARTIFACT_NOT_FOUND: _E("NOT_FOUND", 404, "The run has no such artifact."),
    _C.NAME_TAKEN: _E("ALREADY_EXISTS", 409, "The name is taken."),
    _C.RUNNER_NAME_TAKEN: _E("ALREADY_EXISTS", 409, "A runner of this name is enrolled."),
    _C.REQUEST_ID_REUSED: _E("ALREADY_EXISTS", 409, "The request id was used with another request."),
    _C.AMBIGUOUS_ID: _E("INVALID_ARGUMENT", 400, "More than one thing answers to this id."),
    _C.RUN_FINISHED: _E("FAILED_PRECONDITION", 409, "The run is already over."),
    _C.RUN_ACTIVE: _E("FAILED_PRECONDITION", 409, "The run is not over yet."),
    _C.COUNT_DIFFERS: _E("FAILED_PRECONDITION", 409, "Another number of things matches than was expected."),
    _C.TASK_INACTIVE: _E("FAILED_PRECONDITION", 409, "The task is not active."),
    _C.TASK_HAS_ACTIVE_RUNS: _E("FAILED_PRECONDITION", 409, "The task has active runs."),
    _C.TASK_DELETED: _E("FAILED_PRECONDITION", 409, "The task was deleted."),
    _C.TASK_NOT_DELETED: _E("FAILED_PRECONDITION", 409, "The task is not deleted."),
    _C.LAUNCHER_UNAVAILABLE: _E("FAILED_PRECONDITION", 409, "This version cannot run specs of this kind."),
    _C.VARIABLES_GONE: _E("FAILED_PRECONDITION", 409, "The run's sensitive values are no longer kept."),
    _C.PROJECT_NOT_EMPTY: _E("FAILED_PRECONDITION", 409, "The project is not empty."),
    _C.SCHEDULE_ENDED: _E("FAILED_PRECONDITION", 409, "The schedule has no further firing."),
    _C.SCHEDULE_PAUSED: _E("FAILED_PRECONDITION", 409, "The schedule is paused."),
    _C.TASK_HAS_SCHEDULES: _E("FAILED_PRECONDITION", 409, "The task has schedules."),
    _C.LAST_ADMIN: _E("FAILED_PRECONDITION", 409, "It is the last admin."),
    _C.RUNNER_CONNECTED: _E("FAILED_PRECONDITION", 409, "The runner is connected."),
    _C.SECRET_IN_USE: _E("FAILED_PRECONDITION", 409, "Tasks or templates refer to the secret."),
    _C.LIMIT_REACHED: _E("FAILED_PRECONDITION", 409, "A limit was reached."),
    _C.JOIN_TOKEN_USED: _E("FAILED_PRECONDITION", 409, "The join token was used already."),
    _C.LABEL_NOT_GRANTED: _E("FAILED_PRECONDITION", 409, "The join token does not grant these labels."),
    _C.PROTOCOL_UNSUPPORTED: _E("FAILED_PRECONDITION", 400, "The runner and the control plane share no protocol."),
    _C.SESSION_SUPERSEDED: _E("ABORTED", 409, "A newer session of the same runner took over."),
    _C.ETAG_MISMATCH: _E("ABORTED", 412, "It was changed by someone else in the meantime."),
    _C.CONCURRENT_CHANGE: _E("ABORTED", 409, "It was changed at the same moment; try again."),
    _C.TOKEN_MISSING: _E("UNAUTHENTICATED", 401, "The call carries no token."),
    _C.TOKEN_INVALID: _E("UNAUTHENTICATED", 401, "The token is not valid."),
    _C.TOKEN_EXPIRED: _E("UNAUTHENTICATED", 401, "The token has expired."),
    _C.TOKEN_REVOKED: _E("UNAUTHENTICATED", 401, "The token was revoked."),
    _C.PRINCIPAL_DISABLED: _E("UNAUTHENTICATED", 401, "The principal of this token is disabled."),
    _C.JOIN_TOKEN_INVALID: _E("UNAUTHENTICATED", 401, "The join token is not valid or has expired."),
    _C.SIGNATURE_INVALID: _E("UNAUTHENTICATED", 401, "The signature is not valid."),
    _C.CREDENTIAL_EXPIRED: _E("UNAUTHENTICATED", 401, "The runner's credential has expired."),
    _C.RUNNER_REVOKED: _E("PERMISSION_DENIED", 403, "The runner was revoked."),
    _C.NOT_ADMIN: _E("PERMISSION_DENIED", 403, "Only an admin may do this."),
    _C.PROJECT_FORBIDDEN: _E("PERMISSION_DENIED", 403, "The caller may not use this project."),
    _C.METHOD_FORBIDDEN: _E("PERMISSION_DENIED", 403, "The caller may not use this method."),
    _C.RESUME_TOKEN_EXPIRED: _E("OUT_OF_RANGE", 410, "The changes behind this resume token are no longer kept."),
    _C.LOG_EXPIRED: _E("OUT_OF_RANGE", 410, "The log is no longer kept."),
    _C.OFFSET_BEYOND_END: _E("OUT_OF_RANGE", 400, "The offset lies behind the end of the log."),
    _C.QUEUE_FULL: _E("RESOURCE_EXHAUSTED", 429, "The control plane is busy; try again."),
    _C.TOO_MANY_STREAMS: _E("RESOURCE_EXHAUSTED", 429, "Too many calls of this caller are open."),
    _C.STORAGE_FULL: _E("RESOURCE_EXHAUSTED", 507, "The control plane's disk is full."),
    _C.SHUTTING_DOWN: _E("UNAVAILABLE", 503, "The control plane is stopping."),
    _C.ACCESS_CHANGED: _E("UNAVAILABLE", 503, "The caller's access has changed; call again."),
    _C.STORAGE_UNAVAILABLE: _E("UNAVAILABLE", 503, "The database does not answer."),
    _C.INTERNAL: _E("INTERNAL", 500, "Something went wrong inside the control plane."),
}


class BanksmanError(Exception):
    """An error with a stable code. `message` is for a person, `hint` is the next command to try (may be empty)."""

    status: ClassVar[str] = ""

    def __init__(
        self,
        code: ErrorCode,
        message: str = "",
        *,
        violations: tuple[FieldViolation, ...] = (),
        metadata: Mapping[str, str] | None = None,
        hint: str = "",
        principal: tuple[str, str] | None = None,
    ) -> None:
        entry = CATALOGUE[code]
        if self.status != entry.status:
            raise ValueError(f"{code} is {entry.status}, {type(self).__name__} is {self.status}")
        self.code = code
        self.message = message or entry.text
        self.violations = violations
        self.metadata = dict(metadata or {})
        self.hint = hint
        # Id and name of the principal that was recognised before it was refused; the answer does not say it.
        self.principal = principal
        super().__init__(f"{code}: {self.message}")


class InvalidArgument(BanksmanError):
    status = "INVALID_ARGUMENT"


class NotFound(BanksmanError):
    status = "NOT_FOUND"


class AlreadyExists(BanksmanError):
    status = "ALREADY_EXISTS"


class FailedPrecondition(BanksmanError):
    status = "FAILED_PRECONDITION"


class Aborted(BanksmanError):
    status = "ABORTED"


class Unauthenticated(BanksmanError):
    status = "UNAUTHENTICATED"


class PermissionDenied(BanksmanError):
    status = "PERMISSION_DENIED"


class OutOfRange(BanksmanError):
    status = "OUT_OF_RANGE"


class ResourceExhausted(BanksmanError):
    status = "RESOURCE_EXHAUSTED"


class Unavailable(BanksmanError):
    status = "UNAVAILABLE"


class Internal(BanksmanError):
    status = "INTERNAL"


def invalid_fields(*violations: FieldViolation) -> InvalidArgument:
    """One answer that names every offending field."""
    named = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
    return InvalidArgument(ErrorCode.INVALID_FIELDS, named, violations=violations)
