"""Schedules and firings, secrets, request ids."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
)

from control_plane.storage.tables.columns import METADATA, flag_, id_, number_, partial_, project_, text_, when_

SCHEDULES: Final = Table(
    "schedules",
    METADATA,
    id_(),
    project_(),
    Column("name", Text, nullable=False),
    Column("task_id", Text, ForeignKey("tasks.id"), nullable=False, index=True),
    text_("cron"),
    Column("every_s", Float),
    when_("once"),
    text_("time_zone"),
    text_("overlap"),
    text_("catch_up"),
    flag_("paused"),
    text_("pause_note"),
    when_("next_fire_at"),
    when_("last_fired_at"),
    Column("last_run_id", Text),
    text_("created_by"),
    when_("created_at", nullable=False),
    when_("updated_at", nullable=False),
    text_("etag"),
    when_("start_at"),
    when_("end_at"),
    Column("jitter_s", Float, nullable=False, server_default="0"),
    Column("max_catch_up", BigInteger, nullable=False, server_default="0"),
    Column("pause_after_failures", BigInteger, nullable=False, server_default="0"),
    Column("variables", Text, nullable=False, server_default="{}"),
    Column("phase_us", BigInteger, nullable=False, server_default="0"),
    Column("failures", BigInteger, nullable=False, server_default="0"),
    when_("forgotten_to"),
    UniqueConstraint("project_id", "name"),
)
# A planner believes in a partial index only when a query repeats its condition to the letter.
DUE_SCHEDULE: Final = "next_fire_at IS NOT NULL AND NOT paused"
partial_("ix_schedules_due", SCHEDULES.c.next_fire_at, SCHEDULES.c.id, where=DUE_SCHEDULE)

FIRINGS: Final = Table(
    "firings",
    METADATA,
    # The key makes a firing happen once. No reference to schedules: history outlives them.
    Column("schedule_id", Text, primary_key=True),
    Column("origin", Text, primary_key=True),
    Column("scheduled_time", BigInteger, primary_key=True, autoincrement=False),
    project_(),
    # Absent for an instant that was passed over: then `missed` says how many there were from it on.
    Column("run_id", Text),
    number_("missed"),
    text_("created_by"),
    Column("created_at", BigInteger, nullable=False, index=True),
)
Index("ix_firings_time", FIRINGS.c.schedule_id, FIRINGS.c.scheduled_time, FIRINGS.c.origin)

# Queued runs that wait until the other active runs of their schedule are over.
RUN_TURNS: Final = Table(
    "run_turns", METADATA, Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
)

SECRETS: Final = Table(
    "secrets",
    METADATA,
    Column("project_id", Text, ForeignKey("projects.id"), primary_key=True),
    id_("name"),
    number_("version"),
    Column("sealed", LargeBinary, nullable=False),
    text_("created_by"),
    when_("created_at", nullable=False),
    when_("updated_at", nullable=False),
)

REQUEST_IDS: Final = Table(
    "request_ids",
    METADATA,
    Column("principal_id", Text, primary_key=True),
    Column("method", Text, primary_key=True),
    Column("request_id", Text, primary_key=True),
    text_("body_digest"),
    text_("resource_id"),
    Column("created_at", BigInteger, nullable=False, index=True),
)
