"""Turn a failed call into what a person reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from control_plane.cli.errors import CliError
from control_plane.cli.exits import of_status
from control_plane.cli.field_options import option_of

if TYPE_CHECKING:
    import grpc
    from google.rpc import error_details_pb2
    from google.rpc.status_pb2 import Status

NOUNS = ("run", "task", "template", "schedule", "project", "runner", "token", "principal", "secret")
# Where the control plane names no command itself.
AFTER_REFUSAL = {
    "REPORT_NOT_FOUND": "banksman run report RUN --list; a run has the reports that its task asked for (--report)",
    "RUN_ACTIVE": "banksman run wait RUN, or banksman run cancel RUN",
    "VARIABLES_GONE": "banksman run retry RUN --var NAME, which copies $NAME",
    "TASK_HAS_ACTIVE_RUNS": "banksman run cancel --filter 'task = NAME'",
}


def status_name(error: grpc.RpcError) -> str:
    """UNAVAILABLE, NOT_FOUND, …"""
    code = error.code()
    return str(code.name)


def detail_text(error: grpc.RpcError) -> str:
    return str(error.details() or "")


def translate(error: grpc.RpcError, url: str) -> CliError:
    """One sentence, the reason code, every refused field, and what to try next."""
    from google.rpc import error_details_pb2 as details

    code = status_name(error)
    status = rich_status(error)
    info, lines, hint = details.ErrorInfo(), [], ""
    fields: list[tuple[str, str]] = []
    message = detail_text(error).rstrip(". ") or code.replace("_", " ").lower()
    for packed in status.details if status else []:
        bad, unmet, helpful = details.BadRequest(), details.PreconditionFailure(), details.Help()
        if packed.Is(details.ErrorInfo.DESCRIPTOR):
            packed.Unpack(info)
        elif packed.Unpack(bad):
            for violation in bad.field_violations:
                told, line = f"{violation.field}: {violation.description}", refused(violation)
                message = message.replace(told.rstrip(". "), line.rstrip(". "))
                lines.append(line)
                fields.append((violation.field, violation.description))
        elif packed.Unpack(unmet):
            lines += [f"{violation.subject}: {violation.description}".lstrip(": ") for violation in unmet.violations]
        elif packed.Unpack(helpful):
            hint = "; ".join(filter(None, (link.description or link.url for link in helpful.links))) or hint
    if len(lines) > 1 and all(line in message for line in lines):
        message = f"{len(lines)} values were refused"
    cause = ""
    if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED") and not info.reason:
        cause, message = message, sentence_for(code, url)
    if info.reason == "RUN_NOT_FOUND":
        cause = "a run is named by its id, the last 8 digits of that, or @last"
    return CliError(
        message,
        exit_code=of_status(code),
        reason=info.reason or code,
        cause=cause,
        # What the sentence says already is not said again.
        details=tuple(line for line in lines if line.rstrip(". ") not in message),
        next_command=hint or next_command(code, info.reason, url),
        debug=debug_text(code, detail_text(error), status),
        fields=tuple(fields),
    )


def refused(violation: error_details_pb2.BadRequest.FieldViolation) -> str:
    """A field by its name in the contract and, where the command has one, by its option."""
    option = option_of(violation.field)
    return f"{violation.field}{f' ({option})' if option else ''}: {violation.description}"


def sentence_for(code: str, url: str) -> str:
    if code == "UNAVAILABLE":
        return f"the control plane at {url} cannot be reached"
    return f"the control plane at {url} did not answer in time"


def rich_status(error: grpc.RpcError) -> Status | None:
    """The google.rpc.Status of the trailers, if there is one that can be read."""
    from google.protobuf.message import DecodeError
    from grpc_status import rpc_status

    try:
        status: Status | None = rpc_status.from_call(error)
    except (ValueError, DecodeError, AttributeError):
        return None
    return status


def next_command(code: str, reason: str, url: str) -> str:
    if reason in AFTER_REFUSAL:
        return AFTER_REFUSAL[reason]
    if code == "NOT_FOUND":
        noun = reason.split("_")[0].lower()
        return f"banksman {noun} list" if noun in NOUNS else ""
    return {
        "UNAUTHENTICATED": f"banksman login --url {url}",
        "PERMISSION_DENIED": "banksman whoami",
        "UNAVAILABLE": "banksman status, once the server runs (banksman dev, or banksman-server serve)",
        "DEADLINE_EXCEEDED": "banksman status",
        "ABORTED": "get it again and repeat the change",
    }.get(code, "")


def debug_text(code: str, message: str, status: Status | None) -> str:
    text = f"status: {code}\nmessage: {message}"
    if status is None:
        return text
    from google.protobuf import text_format

    # Registers the detail types, so that they are printed by their fields.
    from google.rpc import error_details_pb2 as _details  # noqa: F401

    return f"{text}\n{text_format.MessageToString(status)}"
