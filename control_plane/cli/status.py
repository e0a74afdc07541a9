"""The control plane at a glance, and the versions of both sides."""

from __future__ import annotations

import importlib.metadata

from control_plane.cli import contract
from control_plane.cli.commands import command
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation
from control_plane.cli.output import Cell, View, json_text, when, yaml_text

STATUS = View(columns=(), name=lambda status: "status")


def program_version() -> str:
    """The version of the installed distribution."""
    try:
        return importlib.metadata.version("banksman")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def human_bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


@command("status", examples=("banksman status", "banksman status -o json"))
def status(inv: Invocation) -> None:
    """Show the control plane on one screen."""
    client = inv.client
    found = client.call(client.system.GetStatus, contract.system_pb2.GetStatusRequest(), repeatable=True)
    printer = inv.printer
    if printer.form != "table":
        printer.one(found, STATUS)
        return
    info = client.call(client.system.GetServerInfo, contract.system_pb2.GetServerInfoRequest(), repeatable=True)
    lines: list[tuple[str, Cell]] = [
        ("control plane", client.target.url),
        ("version", info.version),
        ("up since", when(info, "started_at")),
        ("runners", f"{found.runners_connected} connected, {found.runners_disconnected} disconnected"),
        ("slots", f"{found.slots_used} of {found.slots_total} used"),
        ("runs", f"{found.runs_queued} queued, {found.runs_active} active"),
        ("schedules", f"{found.schedules_active} active"),
        ("next firing", when(found, "next_fire_at")),
        ("database", human_bytes(found.database_bytes)),
        ("logs", human_bytes(found.log_bytes)),
        ("disk free", human_bytes(found.disk_free_bytes)),
    ]
    printer.pairs(lines)
    for warning in found.warnings:
        inv.say(f"warning: {warning}")


@command("version", examples=("banksman version", "banksman version -o json"))
def version(inv: Invocation) -> None:
    """Print the versions of this program and the control plane."""
    data = {"client": program_version(), "server": "", "instance_id": ""}
    inv.flags.setdefault("rpc_timeout", 3.0)
    try:
        client = inv.client
        info = client.call(client.system.GetServerInfo, contract.system_pb2.GetServerInfoRequest(), repeatable=False)
        data |= {"server": info.version, "instance_id": info.instance_id}
    except CliError as error:
        if inv.debug:
            inv.say(f"no control plane answered: {error.message}")
    printer = inv.printer
    match printer.form:
        case "json":
            printer.write(json_text(data, indent=2))
        case "jsonl":
            printer.write(json_text(data))
        case "yaml":
            printer.write(yaml_text(data).rstrip("\n"))
        case "name":
            printer.write(data["client"])
        case _:
            printer.pairs([("banksman", data["client"]), ("control plane", data["server"] or "none answered")])
