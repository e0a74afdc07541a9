"""Inserts, compare-and-set updates and deletes: for lifecycle only, inside `Database.write`."""

from control_plane.storage.writes.access import (
    delete_join_token,
    delete_project,
    insert_join_token,
    insert_principal,
    insert_project,
    insert_request,
    insert_token,
    redeem_join_token,
    revoke_token,
    save_project,
    use_token,
)
from control_plane.storage.writes.logs import mark_log_deleted, upsert_segment
from control_plane.storage.writes.retention import (
    delete_firings,
    delete_join_tokens,
    delete_request_ids,
    delete_runs,
    delete_unused_specs,
    delete_unused_tasks,
)
from control_plane.storage.writes.runners import disconnect_runners, insert_runner, save_runner
from control_plane.storage.writes.runs import (
    append_events,
    insert_attempt,
    insert_run,
    insert_spec,
    prune_rejected,
    save_attempt,
    save_run,
)
from control_plane.storage.writes.schedules import (
    delete_schedule,
    delete_schedules_of_task,
    insert_firing,
    insert_schedule,
    link_firing,
    save_schedule,
)
from control_plane.storage.writes.server import insert_server
from control_plane.storage.writes.tasks import delete_secret, insert_secret, insert_task, save_secret, save_task

__all__ = [
    "append_events",
    "delete_firings",
    "delete_join_token",
    "delete_join_tokens",
    "delete_project",
    "delete_request_ids",
    "delete_runs",
    "delete_schedule",
    "delete_schedules_of_task",
    "delete_secret",
    "delete_unused_specs",
    "delete_unused_tasks",
    "disconnect_runners",
    "insert_attempt",
    "insert_firing",
    "insert_join_token",
    "insert_principal",
    "insert_project",
    "insert_request",
    "insert_run",
    "insert_runner",
    "insert_schedule",
    "insert_secret",
    "insert_server",
    "insert_spec",
    "insert_task",
    "insert_token",
    "link_firing",
    "mark_log_deleted",
    "prune_rejected",
    "redeem_join_token",
    "revoke_token",
    "save_attempt",
    "save_project",
    "save_run",
    "save_runner",
    "save_schedule",
    "save_secret",
    "save_task",
    "upsert_segment",
    "use_token",
]
