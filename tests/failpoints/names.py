"""All points, so that an order for one that does not exist is refused."""

from __future__ import annotations

_COMMITTED = (
    "submit", "offer", "accept", "started", "step", "stop_status", "exit", "held", "log_batch", "firing", "cancel",
    "retry", "release", "lost", "alarm", "due", "withdraw", "enrol", "disconnect", "delete", "purge",
    "reports_made", "artifacts_begin", "artifacts_complete", "artifacts_finish", "audit_sign",
)  # fmt: skip
_SENT = (
    "submit", "offer", "accept", "started", "exit", "log_batch", "firing", "cancel", "retry", "release", "welcome",
    "heartbeat", "stop", "fenced", "withdraw", "rewind",
)  # fmt: skip
_SAID = ("hello", "accept", "started", "step", "exit", "log", "stop_status", "heartbeat", "drain")
_HEARD = ("started", "step_ended", "stop_phase", "spooled", "exited", "shim_gone")
_RECEIVED = (
    "welcome", "heartbeatack", "offer", "withdraw", "assignment", "fenced", "release", "stop", "logack", "logrewind",
    "drain", "resume", "goodbye",
)  # fmt: skip

SERVER = frozenset(
    {f"server.{verb}.{moment}" for verb in _COMMITTED for moment in ("before_commit", "after_commit")}
    | {f"server.{verb}.after_send" for verb in _SENT}
)
AGENT = frozenset(
    {f"agent.start.{moment}" for moment in ("begun", "waiting", "locked", "before_scan", "scanned", "ready")}
    | {f"agent.{word}.{moment}" for word in _SAID for moment in ("before_send", "after_send")}
    | {f"agent.{event}.heard" for event in _HEARD}
    | {f"agent.{message}.received" for message in _RECEIVED}
    | {"agent.accept.before_journal", "agent.accept.after_journal"}
    | {"agent.fork.before_order", "agent.fork.after_order"}
    | {"agent.stop.before_pass_on", "agent.stop.passed_on"}
    | {
        f"agent.release.{moment}"
        for moment in ("before_workspace", "before_run_directory", "renamed", "half_deleted", "done")
    }
)
SHIM = frozenset(
    {
        "shim.locked",
        "shim.prepared",
        "shim.child.forked",
        "shim.identity.before_fsync",
        "shim.identity.before_rename",
        "shim.identity.stored",
        "shim.child.before_release",
        "shim.child.released",
        "shim.spool.appended",
        "shim.child.reaped",
        "shim.step.ended",
        "shim.stop.stored",
        "shim.stop.before_signal",
        "shim.stop.signalled",
        "shim.clearing.begun",
        "shim.clearing.round",
        "shim.child.ended",
        "shim.spool.synced",
        "shim.exit.before_write",
        "shim.exit.before_fsync",
        "shim.exit.before_rename",
        "shim.exit.stored",
        "shim.left",
    }
)
FORK_SERVER = frozenset(
    {
        "fork_server.started",
        "fork_server.fork.before",
        "fork_server.fork.handed",
        "fork_server.fork.no_spare",
        "fork_server.fork.after",
        "fork_server.witness.before",
        "fork_server.witness.after",
        "fork_server.retire.before",
        "fork_server.retire.after",
    }
)
NAMES = SERVER | AGENT | SHIM | FORK_SERVER
