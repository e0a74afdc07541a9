"""What is told of runs: notifications on their way, and reports."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text

from control_plane.storage.tables.columns import METADATA, id_, number_, partial_, project_, text_, when_

DELIVERIES: Final = Table(
    "deliveries",
    METADATA,
    id_(),
    project_(),
    text_("created_by"),
    when_("created_at", nullable=False),
    text_("event"),
    text_("task_id"),
    text_("task_name"),
    Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), index=True),
    Column("schedule_id", Text),
    text_("webhook_url"),
    text_("secret_ref"),
    text_("target"),
    text_("payload"),
    text_("state"),
    number_("attempts"),
    when_("next_attempt_at"),
    Column("expires_at", BigInteger, nullable=False),
    when_("last_attempt_at"),
    when_("delivered_at"),
    Column("response_status", Integer),
    text_("error"),
)
partial_(
    "ix_deliveries_due",
    DELIVERIES.c.next_attempt_at,
    DELIVERIES.c.target,
    DELIVERIES.c.id,
    where="next_attempt_at IS NOT NULL",
)
Index("ix_deliveries_project", DELIVERIES.c.project_id, DELIVERIES.c.id)
Index("ix_deliveries_task", DELIVERIES.c.task_id, DELIVERIES.c.id)
Index("ix_deliveries_created", DELIVERIES.c.created_at)

REPORTS: Final = Table(
    "reports",
    METADATA,
    id_(),
    project_(),
    text_("created_by"),
    when_("created_at", nullable=False),
    Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    text_("format"),
    number_("size_bytes"),
    text_("sha256"),
    Column("body", LargeBinary, nullable=False),
)
