"""Who did what: list it, check it, take it away."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from control_plane.cli import contract
from control_plane.cli.audit_file import HEAD_FIELDS, Line, check_file, read_head
from control_plane.cli.commands import command
from control_plane.cli.errors import CliError
from control_plane.cli.exits import ExitCode
from control_plane.cli.invocation import Invocation, stdout_bytes
from control_plane.cli.spec_options import assign
from control_plane.cli.views import AUDIT_EVENT

if TYPE_CHECKING:
    from control_plane.cli.contract import audit_pb2

NEWEST = 50
LONG_S = 3_600.0


@command(
    "list",
    examples=(
        "banksman audit list --filter 'principal = ci AND NOT code = OK'",
        "banksman audit list --filter 'method = \"TaskService/*\"' -o jsonl",
    ),
)
@click.option("--filter", "text", default="", metavar="FILTER", help="Such as: resource = run/ID AND at > TIME.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=NEWEST, show_default=True, help="At most so many.")
def list_events(inv: Invocation, text: str, limit: int) -> None:
    """List what was done and what was denied, newest first. For admins."""
    request = contract.audit_pb2.ListAuditEventsRequest()
    assign(request, "filter", text)
    found = inv.client.pages(inv.client.audit.ListAuditEvents, request, lambda page: page.events, limit=limit)
    inv.printer.rows(found, AUDIT_EVENT)


@command(
    "verify",
    examples=("banksman audit verify --head kept.jsonl", "banksman audit verify --file export.jsonl --head kept.jsonl"),
)
@click.option("--file", "file", metavar="EXPORT", help="Check this export, without a server.")
@click.option("--head", "head", metavar="FILE", help="An earlier export, or its last line: nothing of it may be gone.")
def verify(inv: Invocation, file: str | None, head: str | None) -> None:
    """Compute the whole trail anew; ends with 6 when it is broken.

    The trail itself shows that an entry was changed, removed or moved. That its end was cut off, or that all of it was
    written anew, shows only a head that was kept elsewhere.
    """
    kept = None if head is None else read_head(head)
    if file is not None:
        result = check_file(file, kept)
        signed = {None: ", its signature was not checked (install banksman[server])", True: ", signed", False: ""}
        say(inv, result.checked, result.faults, result.head, signed[result.signed])
        return
    request = contract.audit_pb2.VerifyAuditRequest()
    if kept is not None:
        request.head.CopyFrom(message_of(kept))
    found = inv.client.call(inv.client.audit.VerifyAudit, request, repeatable=True, deadline_s=LONG_S)
    if inv.output not in ("table", "name"):
        inv.printer.one(found, AUDIT_EVENT)
    faults = [f"number {fault.seq}: {fault.description}" for fault in found.faults]
    say(inv, found.checked, faults, {"seq": found.head.seq, "hash": found.head.hash}, "")


@command("export", examples=("banksman audit export --to audit.jsonl", "banksman audit export | gzip > audit.jsonl.gz"))
@click.option("--to", "target", metavar="FILE", help="Write it there; without it to standard output.")
@click.option("--after", type=click.IntRange(0), default=0, metavar="N", help="Only what stands behind number N.")
def export(inv: Invocation, target: str | None, after: int) -> None:
    """Write the trail as lines of JSON; the last one is a signed head.

    Keep the file, or its last line, where nobody who may write to the server's disk can reach it.
    """
    request = contract.audit_pb2.ExportAuditRequest(after_seq=after)
    with output(target) as write:
        for lines in inv.client.parts(inv.client.audit.ExportAudit, request, deadline_s=LONG_S):
            write(lines.lines)
    if target is not None:
        head = read_head(target)
        inv.say(f"wrote {head['seq'] - after} entries to {target}; the head is number {head['seq']}, {head['hash']}")


def say(inv: Invocation, checked: int, faults: list[str], head: Line, more: str) -> None:
    """One sentence. Raises CliError when there are faults."""
    if faults:
        raise CliError("the audit trail is broken", exit_code=ExitCode.CONFLICT, details=tuple(faults))
    inv.say(f"the audit trail is whole: {checked} entries, head {head['seq']} {head['hash']}{more}")


def message_of(head: Line) -> audit_pb2.AuditHead:
    """A head from a file. Raises CliError."""
    from google.protobuf import json_format

    known = {name: head[name] for name in HEAD_FIELDS if name in head}
    try:
        return json_format.ParseDict(known, contract.audit_pb2.AuditHead())
    except json_format.ParseError as error:
        raise CliError(f"the head that was kept cannot be read: {error}") from error


@contextlib.contextmanager
def output(target: str | None) -> Iterator[Callable[[bytes], object]]:
    """Where an export goes. Raises CliError."""
    if target is None:
        yield stdout_bytes().write
        stdout_bytes().flush()
        return
    try:
        with open(target, "wb") as file:
            yield file.write
    except OSError as error:
        raise CliError(f"{target} cannot be written: {error.strerror}") from error
