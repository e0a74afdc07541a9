"""Places under limits, queues that take turns, and what is kept how long."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

QUEUED = "state = 'QUEUED'"
KEPT_LOG = "log_sealed_at IS NOT NULL AND log_deleted_at IS NULL"
OLD_RUN = "settled_at IS NOT NULL AND hidden_at IS NULL AND NOT pinned"


def upgrade() -> None:
    op.add_column("projects", sa.Column("concurrency", sa.Text(), nullable=True))
    op.add_column("projects", sa.Column("retention", sa.Text(), nullable=False, server_default="{}"))
    op.add_column("runs", sa.Column("lane", sa.Text(), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("places", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("runs", sa.Column("pinned", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute("UPDATE runs SET lane = project_id WHERE state IN ('QUEUED', 'ASSIGNED', 'RUNNING', 'CANCELLING')")
    op.create_table(
        "run_places",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("place_group", sa.Text(), nullable=False),
        sa.Column("holds", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_places_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "place_group", name=op.f("pk_run_places")),
    )
    op.create_index("ix_run_places_group", "run_places", ["place_group", "holds", "run_id"], unique=False)
    op.drop_index("ix_runs_queue", table_name="runs")
    _partial("ix_runs_queue", "runs", ["lane", sa.text("priority DESC"), "queue_rank", "id"], QUEUED)
    op.drop_index("ix_runs_completed", table_name="runs")
    _partial("ix_runs_old", "runs", ["project_id", "settled_at", "id"], OLD_RUN)
    _partial("ix_attempts_project_log", "attempts", ["project_id", "log_sealed_at", "run_id", "lease_epoch"], KEPT_LOG)


def _partial(name: str, table: str, columns: list[str | sa.TextClause], where: str) -> None:
    op.create_index(name, table, columns, unique=False, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
