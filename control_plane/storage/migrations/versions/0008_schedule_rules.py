"""Windows, jitter, variables and failures of schedules; runs that wait for their turn."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("start_at", "end_at", "forgotten_to"):
        op.add_column("schedules", sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column("schedules", sa.Column("jitter_s", sa.Float(), nullable=False, server_default="0"))
    op.add_column("schedules", sa.Column("variables", sa.Text(), nullable=False, server_default="{}"))
    for name in ("max_catch_up", "pause_after_failures", "phase_us", "failures"):
        op.add_column("schedules", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index("ix_firings_time", "firings", ["schedule_id", "scheduled_time", "origin"], unique=False)
    op.create_table(
        "run_turns",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_turns_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_run_turns")),
    )
