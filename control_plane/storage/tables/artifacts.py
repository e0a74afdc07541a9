"""Files that runs leave: their rows; the bytes lie beside the database."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Table, Text

from control_plane.storage.tables.columns import METADATA, flag_, id_, number_, partial_, project_, text_, when_

ARTIFACTS: Final = Table(
    "artifacts",
    METADATA,
    id_(),
    project_(),
    text_("created_by"),
    Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("lease_epoch", BigInteger, nullable=False),
    text_("name"),
    number_("size_bytes"),
    text_("sha256"),
    flag_("executable"),
    text_("state"),
    when_("created_at", nullable=False),
)
WHOLE: Final = "state = 'COMPLETE'"
Index("ix_artifacts_run", ARTIFACTS.c.run_id, ARTIFACTS.c.lease_epoch, ARTIFACTS.c.name, unique=True)
partial_("ix_artifacts_age", ARTIFACTS.c.project_id, ARTIFACTS.c.created_at, ARTIFACTS.c.id, where=WHOLE)
