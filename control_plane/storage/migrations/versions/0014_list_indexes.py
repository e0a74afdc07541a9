"""Indexes for what lists of runs are filtered by: names, template, trigger, reason, runner, a label's key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

VISIBLE = "hidden_at IS NULL"


def upgrade() -> None:
    of_a_task = f"task_id IS NOT NULL AND {VISIBLE}"
    odd_reason = f"reason IS NOT NULL AND reason <> 'EXIT_ZERO' AND {VISIBLE}"
    _partial("ix_runs_task_name", "runs", ["project_id", "task_name", "id"], of_a_task)
    of_a_template = f"template_id IS NOT NULL AND {VISIBLE}"
    _partial("ix_runs_template", "runs", ["template_id", "id"], of_a_template)
    _partial("ix_runs_template_name", "runs", ["project_id", "template_name", "id"], of_a_template)
    _partial("ix_runs_trigger", "runs", ["project_id", "trigger_type", "id"], VISIBLE)
    _partial("ix_runs_reason", "runs", ["project_id", "reason", "id"], odd_reason)
    _partial("ix_run_marks_label", "run_marks", ["key", "run_id"], "key <> ''")
    _partial("ix_attempts_runner", "attempts", ["runner_id", "run_id"], "run_id <> ''")


def _partial(name: str, table: str, columns: list[str | sa.TextClause], where: str) -> None:
    op.create_index(name, table, columns, unique=False, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
