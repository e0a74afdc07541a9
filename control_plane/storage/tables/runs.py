"""What runs: specs, tasks, runs, attempts, their events and logs."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    false,
)

from control_plane.storage.tables.columns import METADATA, SERIAL, flag_, id_, number_, partial_, project_, text_, when_

SPECS: Final = Table(
    "specs", METADATA, id_("sha256"), Column("body", LargeBinary, nullable=False), when_("created_at", nullable=False)
)

SPEC_SECRETS: Final = Table(
    "spec_secrets",
    METADATA,
    Column("sha256", Text, ForeignKey("specs.sha256", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True, index=True),
)

TASKS: Final = Table(
    "tasks",
    METADATA,
    id_(),
    project_(),
    Column("name", Text, nullable=False),
    text_("description"),
    Column("spec_sha256", Text, ForeignKey("specs.sha256"), nullable=False, index=True),
    text_("labels"),
    text_("tags"),
    flag_("active"),
    text_("created_by"),
    when_("created_at", nullable=False),
    when_("updated_at", nullable=False),
    text_("etag"),
    when_("deleted_at"),
    Column("variables", Text, nullable=False, server_default="[]"),
    Column("unknown_variables", Text, nullable=False, server_default="KEEP"),
    Column("allow_shell_substitution", Boolean, nullable=False, server_default=false()),
    Column("allowed_overrides", Text, nullable=False, server_default="[]"),
    Column("owner", Text, nullable=False, server_default=""),
    Column("is_public", Boolean, nullable=False, server_default=false()),
    Column("report", Text, nullable=False, server_default="{}"),
    Column("notifications", Text, nullable=False, server_default="[]"),
    Column("template_id", Text),
    Column("template_name", Text, nullable=False, server_default=""),
    Column("template_version", BigInteger, nullable=False, server_default="0"),
)
partial_("uq_tasks_name", TASKS.c.project_id, TASKS.c.name, where="deleted_at IS NULL", unique=True)

RUNS: Final = Table(
    "runs",
    METADATA,
    id_(),
    # The last 8 hex digits of the id: what people type.
    Column("short_id", Text, nullable=False, index=True),
    project_(),
    Column("task_id", Text),
    text_("task_name"),
    text_("state"),
    Column("reason", Text),
    text_("error_message"),
    Column("spec_sha256", Text, ForeignKey("specs.sha256"), nullable=False, index=True),
    text_("options"),
    text_("trigger_type"),
    text_("created_by"),
    when_("created_at", nullable=False),
    number_("priority"),
    when_("not_before"),
    when_("queue_expires_at"),
    number_("queue_rank"),
    when_("deadline"),
    when_("due_at"),
    when_("started_at"),
    when_("completed_at"),
    when_("settled_at"),
    number_("lease_epoch"),
    Column("exit_code", Integer),
    Column("signal", Integer),
    flag_("kill_confirmed"),
    when_("cancel_requested_at"),
    Column("cancel_reason", Text),
    text_("cancelled_by"),
    text_("cancel_note"),
    Column("retry_of", Text),
    Column("root_run_id", Text),
    number_("tries"),
    number_("retry_count"),
    number_("infra_retries"),
    number_("rejected_count"),
    Column("schedule_id", Text),
    when_("scheduled_time"),
    text_("result_data"),
    # Absent where the spec is no template.
    Column("variables", Text),
    Column("tags", Text, nullable=False, server_default="[]"),
    Column("template_id", Text),
    Column("template_name", Text, nullable=False, server_default=""),
    Column("template_version", BigInteger, nullable=False, server_default="0"),
    # Deleted: nobody sees it any more. Its row stays as a tombstone, emptied when what it held has been removed.
    when_("hidden_at"),
    Column("hidden_by", Text, nullable=False, server_default=""),
    when_("purged_at"),
    Column("progress", Text),
    Column("total_messages", BigInteger),
    Column("total_tool_calls", BigInteger),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cost_usd", Float),
    Column("result_error", Text, nullable=False, server_default=""),
    Column("retries_by_hand", BigInteger, nullable=False, server_default="0"),
    # Queues that take turns: one for each key of a limit, one for the rest of a project.
    Column("lane", Text, nullable=False, server_default=""),
    Column("places", Text, nullable=False, server_default="[]"),
    # Never removed by age.
    Column("pinned", Boolean, nullable=False, server_default=false()),
    # Formats of a report that is still to be made; since when nothing but the report keeps the run from being settled.
    Column("report_formats", Text, nullable=False, server_default="[]"),
    when_("report_due_at"),
)
# A planner believes in a partial index only when a query repeats its condition to the letter: take these.
QUEUED_RUN: Final = "state = 'QUEUED'"
ACTIVE_RUN: Final = "state IN ('QUEUED', 'ASSIGNED', 'RUNNING', 'CANCELLING')"
# Ids are UUIDv7, so that "newest first" is the order of the ids and every list pages by a key that never changes.
VISIBLE_RUN: Final = "hidden_at IS NULL"
partial_("ix_runs_project", RUNS.c.project_id, RUNS.c.id, where=VISIBLE_RUN)
partial_("ix_runs_project_state", RUNS.c.project_id, RUNS.c.state, RUNS.c.id, where=VISIBLE_RUN)
partial_("ix_runs_created_by", RUNS.c.created_by, RUNS.c.id, where=VISIBLE_RUN)
# Every index costs each run something: those that few runs need leave the others out.
partial_("ix_runs_task", RUNS.c.task_id, RUNS.c.id, where=f"task_id IS NOT NULL AND {VISIBLE_RUN}")
OF_A_TASK: Final = f"task_id IS NOT NULL AND {VISIBLE_RUN}"
partial_("ix_runs_task_name", RUNS.c.project_id, RUNS.c.task_name, RUNS.c.id, where=OF_A_TASK)
OF_A_TEMPLATE: Final = f"template_id IS NOT NULL AND {VISIBLE_RUN}"
partial_("ix_runs_template", RUNS.c.template_id, RUNS.c.id, where=OF_A_TEMPLATE)
partial_("ix_runs_template_name", RUNS.c.project_id, RUNS.c.template_name, RUNS.c.id, where=OF_A_TEMPLATE)
partial_("ix_runs_trigger", RUNS.c.project_id, RUNS.c.trigger_type, RUNS.c.id, where=VISIBLE_RUN)
# The usual reason is nothing that has to be looked for.
ODD_REASON: Final = f"reason IS NOT NULL AND reason <> 'EXIT_ZERO' AND {VISIBLE_RUN}"
partial_("ix_runs_reason", RUNS.c.project_id, RUNS.c.reason, RUNS.c.id, where=ODD_REASON)
HIDDEN_RUN: Final = "hidden_at IS NOT NULL AND purged_at IS NULL"
partial_("ix_runs_hidden", RUNS.c.hidden_at, RUNS.c.id, where=HIDDEN_RUN)
PURGED_RUN: Final = "purged_at IS NOT NULL"
partial_("ix_runs_purged", RUNS.c.purged_at, RUNS.c.project_id, where=PURGED_RUN)
# What retention looks through.
OLD_RUN: Final = "settled_at IS NOT NULL AND hidden_at IS NULL AND NOT pinned"
partial_("ix_runs_old", RUNS.c.project_id, RUNS.c.settled_at, RUNS.c.id, where=OLD_RUN)
partial_("ix_runs_report_due", RUNS.c.report_due_at, RUNS.c.id, where="report_due_at IS NOT NULL")
partial_("ix_runs_due", RUNS.c.due_at, RUNS.c.id, where="due_at IS NOT NULL")
partial_("ix_runs_queue", RUNS.c.lane, RUNS.c.priority.desc(), RUNS.c.queue_rank, RUNS.c.id, where=QUEUED_RUN)
partial_("ix_runs_not_before", RUNS.c.not_before, where=f"{QUEUED_RUN} AND not_before IS NOT NULL")
partial_("ix_runs_active", RUNS.c.task_id, RUNS.c.state, RUNS.c.id, where=ACTIVE_RUN)
partial_("ix_runs_schedule", RUNS.c.schedule_id, RUNS.c.state, RUNS.c.id, where="schedule_id IS NOT NULL")

# What lists are filtered by: tags (with an empty key) and labels, of runs and of tasks.
RUN_MARKS: Final = Table(
    "run_marks",
    METADATA,
    Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, primary_key=True),
)
Index("ix_run_marks_key_value", RUN_MARKS.c.key, RUN_MARKS.c.value, RUN_MARKS.c.run_id)
# Who has a label, whatever its value.
A_LABEL: Final = "key <> ''"
partial_("ix_run_marks_label", RUN_MARKS.c.key, RUN_MARKS.c.run_id, where=A_LABEL)
TASK_MARKS: Final = Table(
    "task_marks",
    METADATA,
    Column("task_id", Text, ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, primary_key=True),
)
# Values of sensitive variables that came with a run, sealed; gone once it has settled.
RUN_SECRETS: Final = Table(
    "run_secrets",
    METADATA,
    Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)

# The places that runs take under their limits while they are not over; `holds`: a runner has it, or was offered it.
RUN_PLACES: Final = Table(
    "run_places",
    METADATA,
    Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("place_group", Text, primary_key=True),
    flag_("holds"),
)
Index("ix_run_places_group", RUN_PLACES.c.place_group, RUN_PLACES.c.holds, RUN_PLACES.c.run_id)

ATTEMPTS: Final = Table(
    "attempts",
    METADATA,
    Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("lease_epoch", BigInteger, primary_key=True, autoincrement=False),
    project_(),
    Column("runner_id", Text, ForeignKey("runners.id"), nullable=False),
    text_("state_directory_id"),
    text_("state"),
    number_("number"),
    number_("slots"),
    Column("reason", Text),
    text_("error_message"),
    Column("exit_code", Integer),
    Column("signal", Integer),
    text_("steps"),
    when_("offered_at", nullable=False),
    when_("assigned_at"),
    when_("started_at"),
    when_("ended_at"),
    Column("stop", Text),
    flag_("exit_stored"),
    flag_("kill_confirmed"),
    number_("pid"),
    text_("boot_id"),
    Column("cpu_s", Float),
    number_("max_rss_bytes"),
    text_("usage_source"),
    number_("survivors_killed"),
    Column("final_offset", BigInteger),
    text_("expected_digest"),
    flag_("log_counted"),
    text_("gaps"),
    number_("log_bytes"),
    text_("log_digest"),
    flag_("log_complete"),
    when_("log_sealed_at"),
    when_("log_deleted_at"),
    when_("released_at"),
    Column("progress", Text),
    Column("usage", Text),
    when_("artifacts_due_at"),
    text_("workspace_path"),
    when_("workspace_kept_until"),
)
# Always true: only a query that says so is given this index, so that nobody who wants the few live attempts of a
# runner walks through all that it ever had.
ANY_ATTEMPT: Final = "run_id <> ''"
partial_("ix_attempts_runner", ATTEMPTS.c.runner_id, ATTEMPTS.c.run_id, where=ANY_ATTEMPT)
LIVE_ATTEMPT: Final = "state IN ('OFFERED', 'STARTING', 'RUNNING', 'STOPPING')"
UNSEALED_ATTEMPT: Final = "assigned_at IS NOT NULL AND log_sealed_at IS NULL"
AWAITED_ARTIFACTS: Final = "artifacts_due_at IS NOT NULL"
KEPT_LOG: Final = "log_sealed_at IS NOT NULL AND log_deleted_at IS NULL"
partial_(
    "ix_attempts_kept_log",
    ATTEMPTS.c.log_sealed_at,
    ATTEMPTS.c.run_id,
    ATTEMPTS.c.lease_epoch,
    where=KEPT_LOG,
)
partial_(
    "ix_attempts_project_log",
    ATTEMPTS.c.project_id,
    ATTEMPTS.c.log_sealed_at,
    ATTEMPTS.c.run_id,
    ATTEMPTS.c.lease_epoch,
    where=KEPT_LOG,
)
partial_("ix_attempts_artifacts", ATTEMPTS.c.artifacts_due_at, where=AWAITED_ARTIFACTS)
partial_("ix_attempts_live", ATTEMPTS.c.runner_id, ATTEMPTS.c.run_id, where=LIVE_ATTEMPT)
partial_(
    "ix_attempts_unsealed",
    ATTEMPTS.c.runner_id,
    ATTEMPTS.c.run_id,
    where=UNSEALED_ATTEMPT,
)

RUN_EVENTS: Final = Table(
    "run_events",
    METADATA,
    # Never given twice, also when the newest rows were deleted.
    Column("number", SERIAL, primary_key=True, autoincrement=True),
    Column("project_id", Text, nullable=False),
    Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("task_id", Text),
    text_("type"),
    Column("at", BigInteger, nullable=False, index=True),
    number_("lease_epoch"),
    Column("reason", Text),
    text_("note"),
    text_("actor"),
    sqlite_autoincrement=True,
)
Index("ix_run_events_run", RUN_EVENTS.c.run_id, RUN_EVENTS.c.number)
Index("ix_run_events_project", RUN_EVENTS.c.project_id, RUN_EVENTS.c.number)
Index("ix_run_events_task", RUN_EVENTS.c.task_id, RUN_EVENTS.c.number)

LOG_SEGMENTS: Final = Table(
    "log_segments",
    METADATA,
    Column("run_id", Text, primary_key=True),
    Column("lease_epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    project_(),
    number_("first_offset"),
    number_("end_offset"),
    when_("first_at"),
    number_("newlines"),
    number_("stored_bytes"),
    ForeignKeyConstraint(["run_id", "lease_epoch"], ["attempts.run_id", "attempts.lease_epoch"], ondelete="CASCADE"),
)
