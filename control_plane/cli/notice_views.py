"""What the tables show of notifications and reports."""

from __future__ import annotations

from control_plane.cli.output import Column, Id, View, when
from control_plane.cli.words import enum_word

DELIVERY_STATES = ("pending", "delivered", "failed")


DELIVERY = View(
    columns=(
        Column("ID", lambda each: str(each.id)),
        Column("EVENT", lambda each: enum_word(each, "event").lower()),
        Column("TASK", lambda each: each.task_name),
        Column("RUN", lambda each: Id(each.run_id) if each.run_id else ""),
        Column("STATE", lambda each: enum_word(each, "state").lower()),
        Column("ATTEMPTS", lambda each: str(each.attempts)),
        Column("CREATED", lambda each: when(each, "created_at")),
        Column("TARGET", lambda each: each.webhook_url or f"secret:{each.secret_ref}"),
        Column("ERROR", lambda each: each.error),
    ),
    name=lambda each: str(each.id),
)

REPORT = View(
    columns=(
        Column("ID", lambda each: str(each.id)),
        Column("FORMAT", lambda each: enum_word(each, "format").lower()),
        Column("BYTES", lambda each: str(each.size_bytes)),
        Column("CREATED", lambda each: when(each, "created_at")),
        Column("SHA256", lambda each: each.sha256[:12]),
    ),
    name=lambda each: str(each.id),
)
