"""What runs: specs, tasks, runs, attempts, events, log segments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "specs",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_specs")),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("short_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=True),
        sa.Column("task_name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("spec_sha256", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("trigger_type", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=True),
        sa.Column("queue_expires_at", sa.BigInteger(), nullable=True),
        sa.Column("queue_rank", sa.BigInteger(), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=True),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("completed_at", sa.BigInteger(), nullable=True),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.Column("lease_epoch", sa.BigInteger(), nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("kill_confirmed", sa.Boolean(), nullable=False),
        sa.Column("cancel_requested_at", sa.BigInteger(), nullable=True),
        sa.Column("cancel_reason", sa.Text(), nullable=True),
        sa.Column("cancelled_by", sa.Text(), nullable=False),
        sa.Column("cancel_note", sa.Text(), nullable=False),
        sa.Column("retry_of", sa.Text(), nullable=True),
        sa.Column("root_run_id", sa.Text(), nullable=True),
        sa.Column("tries", sa.BigInteger(), nullable=False),
        sa.Column("retry_count", sa.BigInteger(), nullable=False),
        sa.Column("infra_retries", sa.BigInteger(), nullable=False),
        sa.Column("rejected_count", sa.BigInteger(), nullable=False),
        sa.Column("schedule_id", sa.Text(), nullable=True),
        sa.Column("scheduled_time", sa.BigInteger(), nullable=True),
        sa.Column("result_data", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_runs_project_id")),
        sa.ForeignKeyConstraint(["spec_sha256"], ["specs.sha256"], name=op.f("fk_runs_spec_sha256")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_index(
        "ix_runs_active",
        "runs",
        ["task_id", "state", "id"],
        unique=False,
        sqlite_where=sa.text("state IN ('QUEUED', 'ASSIGNED', 'RUNNING', 'CANCELLING')"),
        postgresql_where=sa.text("state IN ('QUEUED', 'ASSIGNED', 'RUNNING', 'CANCELLING')"),
    )
    op.create_index(
        "ix_runs_completed",
        "runs",
        ["completed_at"],
        unique=False,
        sqlite_where=sa.text("completed_at IS NOT NULL"),
        postgresql_where=sa.text("completed_at IS NOT NULL"),
    )
    op.create_index("ix_runs_created_by", "runs", ["created_by", "id"], unique=False)
    op.create_index(
        "ix_runs_due",
        "runs",
        ["due_at", "id"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(
        "ix_runs_not_before",
        "runs",
        ["not_before"],
        unique=False,
        sqlite_where=sa.text("state = 'QUEUED' AND not_before IS NOT NULL"),
        postgresql_where=sa.text("state = 'QUEUED' AND not_before IS NOT NULL"),
    )
    op.create_index("ix_runs_project", "runs", ["project_id", "id"], unique=False)
    op.create_index("ix_runs_project_state", "runs", ["project_id", "state", "id"], unique=False)
    op.create_index(
        "ix_runs_queue",
        "runs",
        [sa.literal_column("priority DESC"), "queue_rank", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'QUEUED'"),
        postgresql_where=sa.text("state = 'QUEUED'"),
    )
    op.create_index(
        "ix_runs_schedule",
        "runs",
        ["schedule_id", "state", "id"],
        unique=False,
        sqlite_where=sa.text("schedule_id IS NOT NULL"),
        postgresql_where=sa.text("schedule_id IS NOT NULL"),
    )
    op.create_index(op.f("ix_runs_short_id"), "runs", ["short_id"], unique=False)
    op.create_index(op.f("ix_runs_spec_sha256"), "runs", ["spec_sha256"], unique=False)
    op.create_index(
        "ix_runs_task",
        "runs",
        ["task_id", "id"],
        unique=False,
        sqlite_where=sa.text("task_id IS NOT NULL"),
        postgresql_where=sa.text("task_id IS NOT NULL"),
    )
    op.create_table(
        "spec_secrets",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["specs.sha256"], name=op.f("fk_spec_secrets_sha256"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sha256", "name", name=op.f("pk_spec_secrets")),
    )
    op.create_index(op.f("ix_spec_secrets_name"), "spec_secrets", ["name"], unique=False)
    op.create_table(
        "tasks",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("spec_sha256", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_tasks_project_id")),
        sa.ForeignKeyConstraint(["spec_sha256"], ["specs.sha256"], name=op.f("fk_tasks_spec_sha256")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
    )
    op.create_index(op.f("ix_tasks_spec_sha256"), "tasks", ["spec_sha256"], unique=False)
    op.create_index(
        "uq_tasks_name",
        "tasks",
        ["project_id", "name"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "attempts",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("lease_epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("runner_id", sa.Text(), nullable=False),
        sa.Column("state_directory_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("slots", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("steps", sa.Text(), nullable=False),
        sa.Column("offered_at", sa.BigInteger(), nullable=False),
        sa.Column("assigned_at", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("stop", sa.Text(), nullable=True),
        sa.Column("exit_stored", sa.Boolean(), nullable=False),
        sa.Column("kill_confirmed", sa.Boolean(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("cpu_s", sa.Float(), nullable=True),
        sa.Column("max_rss_bytes", sa.BigInteger(), nullable=False),
        sa.Column("usage_source", sa.Text(), nullable=False),
        sa.Column("survivors_killed", sa.BigInteger(), nullable=False),
        sa.Column("final_offset", sa.BigInteger(), nullable=True),
        sa.Column("expected_digest", sa.Text(), nullable=False),
        sa.Column("log_counted", sa.Boolean(), nullable=False),
        sa.Column("gaps", sa.Text(), nullable=False),
        sa.Column("log_bytes", sa.BigInteger(), nullable=False),
        sa.Column("log_digest", sa.Text(), nullable=False),
        sa.Column("log_complete", sa.Boolean(), nullable=False),
        sa.Column("log_sealed_at", sa.BigInteger(), nullable=True),
        sa.Column("log_deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("released_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_attempts_project_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_attempts_run_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["runner_id"], ["runners.id"], name=op.f("fk_attempts_runner_id")),
        sa.PrimaryKeyConstraint("run_id", "lease_epoch", name=op.f("pk_attempts")),
    )
    op.create_index(
        "ix_attempts_kept_log",
        "attempts",
        ["log_sealed_at", "run_id", "lease_epoch"],
        unique=False,
        sqlite_where=sa.text("log_sealed_at IS NOT NULL AND log_deleted_at IS NULL"),
        postgresql_where=sa.text("log_sealed_at IS NOT NULL AND log_deleted_at IS NULL"),
    )
    op.create_index(
        "ix_attempts_live",
        "attempts",
        ["runner_id", "run_id"],
        unique=False,
        sqlite_where=sa.text("state IN ('OFFERED', 'STARTING', 'RUNNING', 'STOPPING')"),
        postgresql_where=sa.text("state IN ('OFFERED', 'STARTING', 'RUNNING', 'STOPPING')"),
    )
    op.create_index(
        "ix_attempts_unsealed",
        "attempts",
        ["runner_id", "run_id"],
        unique=False,
        sqlite_where=sa.text("assigned_at IS NOT NULL AND log_sealed_at IS NULL"),
        postgresql_where=sa.text("assigned_at IS NOT NULL AND log_sealed_at IS NULL"),
    )
    op.create_table(
        "run_events",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("lease_epoch", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_events_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_run_events")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_run_events_at"), "run_events", ["at"], unique=False)
    op.create_index("ix_run_events_project", "run_events", ["project_id", "number"], unique=False)
    op.create_index("ix_run_events_run", "run_events", ["run_id", "number"], unique=False)
    op.create_index("ix_run_events_task", "run_events", ["task_id", "number"], unique=False)
    op.create_table(
        "log_segments",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("lease_epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("first_offset", sa.BigInteger(), nullable=False),
        sa.Column("end_offset", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=True),
        sa.Column("newlines", sa.BigInteger(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_log_segments_project_id")),
        sa.ForeignKeyConstraint(
            ["run_id", "lease_epoch"],
            ["attempts.run_id", "attempts.lease_epoch"],
            name=op.f("fk_log_segments_run_id_lease_epoch"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "lease_epoch", "number", name=op.f("pk_log_segments")),
    )
