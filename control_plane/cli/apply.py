"""Make things as files describe them, and say beforehand what that would change."""

from __future__ import annotations

import click

from control_plane.cli.commands import command
from control_plane.cli.comparing import Change, compare, shown
from control_plane.cli.errors import CliError
from control_plane.cli.exits import ExitCode
from control_plane.cli.invocation import Invocation
from control_plane.cli.kinds import create, update
from control_plane.cli.manifest_reader import Place
from control_plane.cli.manifests import Document, read_documents
from control_plane.cli.output import json_text, yaml_text
from control_plane.cli.plain import plain
from control_plane.cli.rehearsing import Rehearsal

DONE = {"create": "created", "update": "updated", "unchanged": "unchanged"}
files_option = click.option(
    "-f", "--file", "files", multiple=True, required=True, metavar="FILE", help="YAML; - is stdin. Repeatable."
)


@command(
    "apply",
    examples=(
        "banksman apply -f build.yaml",
        "banksman apply -f templates.yaml -f tasks.yaml --dry-run",
        "banksman export --all | banksman --context staging apply -f -",
    ),
)
@files_option
@click.option("--dry-run", is_flag=True, help="Only say what would be done, and what would be refused.")
def apply(inv: Invocation, files: tuple[str, ...], dry_run: bool) -> int:
    """Make templates, tasks and schedules as files describe them.

    What is there already is changed where it differs, and a second time nothing is. A field that a file leaves out has
    its default, but the owner and whether a schedule is paused stay. What no file names is left alone.
    """
    documents = read_documents(files)
    done: list[Change] = []
    problems: list[str] = []
    rehearsal = Rehearsal(documents)
    code = int(ExitCode.OK)
    for document in documents:
        try:
            change = compare(inv, document)
            if dry_run:
                rehearsal.carry_out(inv, change)
            else:
                carry_out(inv, change)
            done.append(change)
        except CliError as error:
            if error.exit_code in (ExitCode.UNAVAILABLE, ExitCode.FORBIDDEN):
                raise
            code = code or error.exit_code
            if error.fields:
                problems += [located(document, path).says(f"{path}: {why}") for path, why in error.fields]
            else:
                problems.append(document.place.says(f"{document.kind} {document.name}: {error.message}"))
    report(inv, done, dry_run=dry_run)
    if problems:
        verb = "would be refused" if dry_run else "could not be applied"
        what = f"{len(documents) - len(done)} of {len(documents)} {verb}"
        raise CliError(what, exit_code=code, details=tuple(problems))
    if all(each.action == "unchanged" for each in done):
        inv.say("nothing to change" if done else "no documents")
    return ExitCode.OK


def located(document: Document, path: str) -> Place:
    """Where a refused field stands. It is named from the request on: the file begins behind the first word."""
    return document.where(path.partition(".")[2])


def carry_out(inv: Invocation, change: Change) -> None:
    document = change.document
    if change.stored is None:
        create(inv, document.kind, change.project, document.message)
    elif change.fields:
        update(inv, document.kind, change.project, document.message, change.fields, change.stored)


def report(inv: Invocation, done: list[Change], *, dry_run: bool) -> None:
    rows = [
        {"kind": each.document.kind, "name": each.document.name, "action": each.action, "fields": each.fields}
        for each in done
    ]
    printer = inv.printer
    match printer.form:
        case "json":
            printer.write(json_text(rows, indent=2))
        case "jsonl":
            for row in rows:
                printer.write(json_text(row))
        case "yaml":
            printer.write(yaml_text(rows).rstrip("\n"))
        case "name":
            for each in done:
                printer.write(plain(each.document.name))
        case _:
            for each in done:
                word = each.action if dry_run and each.action == "unchanged" else DONE[each.action]
                word = f"would {each.action}" if dry_run and each.action != "unchanged" else word
                fields = f": {', '.join(each.fields)}" if each.fields else ""
                printer.write(plain(f"{word} {each.document.kind.lower()} {each.document.name}{fields}"))


@command("diff", examples=("banksman diff -f build.yaml",))
@files_option
def diff(inv: Invocation, files: tuple[str, ...]) -> int:
    """Show what `apply` would change. Ends with 1 if it would change anything, with 0 if not."""
    texts = [text for document in read_documents(files) if (text := shown(compare(inv, document)))]
    for text in texts:
        for line in text.splitlines():
            inv.printer.write(plain(line))
    return 1 if texts else ExitCode.OK
