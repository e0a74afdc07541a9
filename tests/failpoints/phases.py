"""The phases of an attempt in which agent, shim or fork server can be hit, as points with the hit that counts."""

from __future__ import annotations

# From the offer to the empty run directory, by the agent; each is `agent.<...>`.
LIFE = (
    "offer.received",
    "accept.before_journal",
    "accept.after_journal",
    "accept.before_send",
    "accept.after_send",
    "assignment.received",
    "fork.before_order",
    "fork.after_order",
    "started.heard",
    "started.before_send",
    "started.after_send",
    "step_ended.heard",
    "log.before_send",
    "log.after_send@2",
    "exited.heard",
    "exit.before_send",
    "exit.after_send",
    "release.received",
    "release.before_workspace",
    "release.before_run_directory",
    "release.renamed",
    "release.half_deleted",
    "release.done",
)
# Those that the fast scenarios try; the long ones try all.
MAIN = (
    "accept.after_journal",
    "accept.after_send",
    "assignment.received",
    "fork.before_order",
    "fork.after_order",
    "started.after_send",
    "step_ended.heard",
    "log.after_send@2",
    "exit.before_send",
    "exit.after_send",
    "release.before_run_directory",
    "release.half_deleted",
)
# The control plane waits for its offer to expire.
SLOW = frozenset({"offer.received", "accept.before_journal"})
STOP = ("stop.received", "stop.before_pass_on", "stop.passed_on", "stop_phase.heard@3", "stop_status.after_send")
MAIN_STOP = ("stop.received", "stop.passed_on", "stop_phase.heard@3")
START = ("start.begun", "start.locked", "start.before_scan", "start.scanned", "start.ready", "hello.before_send")

# By the shim: nothing was executed, and the run comes again;
BEFORE_IDENTITY = (
    "shim.locked",
    "shim.prepared",
    "shim.child.forked",
    "shim.identity.before_fsync",
    "shim.identity.before_rename",
)
# whether something was executed is not known, and its tree is swept;
UNDER_WAY = (
    "shim.identity.stored",
    "shim.child.before_release",
    "shim.child.released",
    "shim.spool.appended@3",
    "shim.child.reaped",
    "shim.step.ended",
    "shim.child.ended",
    "shim.spool.synced",
    "shim.exit.before_write",
    "shim.exit.before_fsync",
    "shim.exit.before_rename",
)
# the record tells how it ended.
RECORDED = ("shim.exit.stored", "shim.left")
LADDER = (
    "shim.stop.stored",
    "shim.stop.before_signal",
    "shim.stop.signalled",
    "shim.clearing.begun",
    "shim.clearing.round",
)
BEFORE_FORK = "fork_server.fork.before"
FORKED = ("fork_server.fork.handed", "fork_server.fork.after")


def order(point: str, action: str = "kill") -> str:
    """The order for a point that may say at which hit."""
    name, _, nth = point.partition("@")
    return f"{name}:{action}@{nth or 1}"
