"""Files that runs leave, when waiting for them ends, and workspaces that stay."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

AWAITED = "artifacts_due_at IS NOT NULL"
WHOLE = "state = 'COMPLETE'"


def upgrade() -> None:
    op.add_column("attempts", sa.Column("artifacts_due_at", sa.BigInteger(), nullable=True))
    op.add_column("attempts", sa.Column("workspace_path", sa.Text(), nullable=False, server_default=""))
    op.add_column("attempts", sa.Column("workspace_kept_until", sa.BigInteger(), nullable=True))
    _partial("ix_attempts_artifacts", "attempts", ["artifacts_due_at"], AWAITED)
    op.create_table(
        "artifacts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("lease_epoch", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("executable", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_artifacts_project_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_artifacts_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifacts")),
    )
    op.create_index("ix_artifacts_run", "artifacts", ["run_id", "lease_epoch", "name"], unique=True)
    _partial("ix_artifacts_age", "artifacts", ["project_id", "created_at", "id"], WHOLE)


def _partial(name: str, table: str, columns: list[str | sa.TextClause], where: str) -> None:
    op.create_index(name, table, columns, unique=False, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
