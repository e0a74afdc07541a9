"""The tables. Times are microseconds since 1970 in UTC, durations seconds, mappings and lists JSON text."""

from control_plane.storage.tables.access import JOIN_TOKENS, PRINCIPALS, PROJECTS, RUNNERS, SERVER, SETTINGS, TOKENS
from control_plane.storage.tables.artifacts import ARTIFACTS
from control_plane.storage.tables.audit import AUDIT_EVENTS, AUDIT_HEADS
from control_plane.storage.tables.columns import METADATA
from control_plane.storage.tables.notices import DELIVERIES, REPORTS
from control_plane.storage.tables.runs import (
    ATTEMPTS,
    LOG_SEGMENTS,
    RUN_EVENTS,
    RUN_MARKS,
    RUN_PLACES,
    RUN_SECRETS,
    RUNS,
    SPEC_SECRETS,
    SPECS,
    TASK_MARKS,
    TASKS,
)
from control_plane.storage.tables.schedules import FIRINGS, REQUEST_IDS, RUN_TURNS, SCHEDULES, SECRETS
from control_plane.storage.tables.templates import TEMPLATE_MARKS, TEMPLATE_VERSIONS, TEMPLATES

__all__ = [
    "ARTIFACTS",
    "ATTEMPTS",
    "AUDIT_EVENTS",
    "AUDIT_HEADS",
    "DELIVERIES",
    "FIRINGS",
    "JOIN_TOKENS",
    "LOG_SEGMENTS",
    "METADATA",
    "PRINCIPALS",
    "PROJECTS",
    "REPORTS",
    "REQUEST_IDS",
    "RUNNERS",
    "RUNS",
    "RUN_EVENTS",
    "RUN_MARKS",
    "RUN_PLACES",
    "RUN_SECRETS",
    "RUN_TURNS",
    "SCHEDULES",
    "SECRETS",
    "SERVER",
    "SETTINGS",
    "SPECS",
    "SPEC_SECRETS",
    "TASKS",
    "TASK_MARKS",
    "TEMPLATES",
    "TEMPLATE_MARKS",
    "TEMPLATE_VERSIONS",
    "TOKENS",
]
