"""Deleted runs and their tombstones; progress, usage and counters of runs and attempts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

VISIBLE = "hidden_at IS NULL"


def upgrade() -> None:
    op.add_column("runs", sa.Column("hidden_at", sa.BigInteger(), nullable=True))
    op.add_column("runs", sa.Column("hidden_by", sa.Text(), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("purged_at", sa.BigInteger(), nullable=True))
    op.add_column("runs", sa.Column("progress", sa.Text(), nullable=True))
    for name in ("total_messages", "total_tool_calls", "input_tokens", "output_tokens"):
        op.add_column("runs", sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column("runs", sa.Column("cost_usd", sa.Float(), nullable=True))
    op.add_column("runs", sa.Column("result_error", sa.Text(), nullable=False, server_default=""))
    op.add_column("attempts", sa.Column("progress", sa.Text(), nullable=True))
    op.add_column("attempts", sa.Column("usage", sa.Text(), nullable=True))
    _lists_leave_the_deleted_out()
    _partial("ix_runs_hidden", ["hidden_at", "id"], "hidden_at IS NOT NULL AND purged_at IS NULL")
    _partial("ix_runs_purged", ["purged_at", "project_id"], "purged_at IS NOT NULL")


def _lists_leave_the_deleted_out() -> None:
    """Many tombstones must not make a list slow."""
    lists = {
        "ix_runs_project": (["project_id", "id"], VISIBLE),
        "ix_runs_project_state": (["project_id", "state", "id"], VISIBLE),
        "ix_runs_created_by": (["created_by", "id"], VISIBLE),
        "ix_runs_task": (["task_id", "id"], f"task_id IS NOT NULL AND {VISIBLE}"),
    }
    for name, (columns, where) in lists.items():
        op.drop_index(name, table_name="runs")
        _partial(name, columns, where)


def _partial(name: str, columns: list[str], where: str) -> None:
    op.create_index(name, "runs", columns, unique=False, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
