"""The audit trail: only ever appended to, which triggers see to on SQLite."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Table, Text

from control_plane.storage.tables.columns import METADATA, number_, text_, when_

AUDIT_EVENTS: Final = Table(
    "audit_events",
    METADATA,
    Column("chain", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    when_("at", nullable=False),
    text_("principal_id"),
    text_("principal"),
    text_("method"),
    text_("resources"),
    text_("peer"),
    text_("request_id"),
    text_("code"),
    number_("count"),
    text_("hash"),
    Index("ix_audit_events_principal_id", "principal_id", "seq"),
    Index("ix_audit_events_at", "at", "seq"),
)
AUDIT_HEADS: Final = Table(
    "audit_heads",
    METADATA,
    Column("chain", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    text_("hash"),
    when_("at", nullable=False),
    text_("signature"),
    text_("public_key"),
)
