"""Variables, owners, reports and notifications of tasks; tags and variables of runs; marks to filter lists by."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("variables", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("tasks", sa.Column("unknown_variables", sa.Text(), nullable=False, server_default="KEEP"))
    op.add_column(
        "tasks", sa.Column("allow_shell_substitution", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("tasks", sa.Column("allowed_overrides", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("tasks", sa.Column("owner", sa.Text(), nullable=False, server_default=""))
    op.add_column("tasks", sa.Column("is_public", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("tasks", sa.Column("report", sa.Text(), nullable=False, server_default="{}"))
    op.add_column("tasks", sa.Column("notifications", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("runs", sa.Column("variables", sa.Text(), nullable=True))
    op.add_column("runs", sa.Column("tags", sa.Text(), nullable=False, server_default="[]"))
    _create_marks("run_marks", "run_id", "runs")
    _create_marks("task_marks", "task_id", "tasks")
    op.create_index("ix_run_marks_key_value", "run_marks", ["key", "value", "run_id"], unique=False)
    op.create_table(
        "run_secrets",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_secrets_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "name", name=op.f("pk_run_secrets")),
    )
    _carry_over()


def _create_marks(name: str, column: str, of: str) -> None:
    op.create_table(
        name,
        sa.Column(column, sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint([column], [f"{of}.id"], name=op.f(f"fk_{name}_{column}"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint(column, "key", "value", name=op.f(f"pk_{name}")),
    )


def _carry_over() -> None:
    """Tasks that are there belong to who made them, and stay open to all members of their project, as they were."""
    connection = op.get_bind()
    connection.execute(sa.text("UPDATE tasks SET owner = created_by, is_public = :yes"), {"yes": True})
    labelled = "SELECT id, tags, options FROM runs WHERE options LIKE :some"
    for kind, query in (("task", sa.text("SELECT id, tags, labels FROM tasks")), ("run", sa.text(labelled))):
        some = {"some": '%"labels":{"%'} if kind == "run" else {}
        marks = [mark for row in connection.execute(query, some) for mark in _marks(kind, *row)]
        insert = sa.text(f"INSERT INTO {kind}_marks ({kind}_id, key, value) VALUES (:id, :key, :value)")
        for start in range(0, len(marks), 500):
            connection.execute(insert, marks[start : start + 500])


def _marks(kind: str, id_: str, tags: str, more: str) -> list[dict[str, str]]:
    labels = json.loads(more) if kind == "task" else json.loads(more).get("labels", {})
    pairs = {("", tag) for tag in json.loads(tags)} | set(labels.items())
    return [{"id": id_, "key": key, "value": value} for key, value in sorted(pairs)]
