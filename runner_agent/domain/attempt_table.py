"""What an attempt does on which cue: one table, (phase, cue) -> (next phase, acts). An absent pair moves nothing.

An absent pair is a repeat or comes late: the stream may tell anything twice, and the held set of the next heartbeat
gets a verdict on whatever was missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from runner_agent.domain.held import Phase


class Cue(StrEnum):
    """What can happen to an attempt, told by the server, by the host or by our own clock."""

    OFFERED = "OFFERED"
    WITHDRAWN = "WITHDRAWN"
    ASSIGNED = "ASSIGNED"
    ASSIGNED_LATE = "ASSIGNED_LATE"  # the loss deadline of its base has already passed
    STOP_ORDERED = "STOP_ORDERED"
    FENCED = "FENCED"
    UNKNOWN = "UNKNOWN"
    RELEASED = "RELEASED"
    EXIT_WANTED = "EXIT_WANTED"
    JOURNALLED = "JOURNALLED"
    JOURNAL_FAILED = "JOURNAL_FAILED"
    PREPARED = "PREPARED"
    PREPARE_FAILED = "PREPARE_FAILED"
    STARTED = "STARTED"
    STOP_MOVED = "STOP_MOVED"
    ENDED = "ENDED"
    NEVER_STARTED = "NEVER_STARTED"
    FORGOTTEN = "FORGOTTEN"
    SHUT_DOWN = "SHUT_DOWN"
    START_TIMED_OUT = "START_TIMED_OUT"
    LOSS_PASSED = "LOSS_PASSED"


class Act(StrEnum):
    """What the agent does about it."""

    TELL_ACCEPT = "TELL_ACCEPT"
    REFUSE_IO = "REFUSE_IO"
    REFUSE_DRAINING = "REFUSE_DRAINING"
    PREPARE = "PREPARE"
    FORK = "FORK"
    END_UNSTARTED = "END_UNSTARTED"  # leave a tombstone and write the record of what never started
    STOP_TREE = "STOP_TREE"
    TERMINATE_SHIM = "TERMINATE_SHIM"  # the stop that needs no protocol version
    TELL_STARTED = "TELL_STARTED"
    TELL_STOP = "TELL_STOP"
    TELL_EXIT = "TELL_EXIT"
    FORGET = "FORGET"
    DROP = "DROP"  # out of the held set, its files stay


Move = tuple[Phase, tuple[Act, ...]]

_FORGET: Move = (Phase.FORGETTING, (Act.FORGET,))
_END: Move = (Phase.ENDING, (Act.END_UNSTARTED,))
_END_TOLD: Move = (Phase.ENDING, (Act.TELL_STOP, Act.END_UNSTARTED))
_STOP: Move = (Phase.STOPPING, (Act.STOP_TREE,))
_STOP_TOLD: Move = (Phase.STOPPING, (Act.STOP_TREE, Act.TELL_STOP))
_EXITED: Move = (Phase.EXITED, (Act.TELL_EXIT,))
_UNSTARTED: Move = (Phase.UNSTARTED, (Act.TELL_EXIT,))
_TERMINATE: Move = (Phase.UNKNOWN_SHIM, (Act.TERMINATE_SHIM,))

ATTEMPT_TABLE: Mapping[Phase, Mapping[Cue, Move]] = MappingProxyType(
    {
        Phase.ACCEPTING: {
            Cue.JOURNALLED: (Phase.ACCEPTED, (Act.TELL_ACCEPT,)),
            Cue.JOURNAL_FAILED: (Phase.FORGETTING, (Act.REFUSE_IO, Act.FORGET)),
            Cue.SHUT_DOWN: (Phase.FORGETTING, (Act.REFUSE_DRAINING, Act.FORGET)),
            Cue.WITHDRAWN: _FORGET,
            Cue.FENCED: _FORGET,
            Cue.RELEASED: _FORGET,
        },
        Phase.ACCEPTED: {
            Cue.OFFERED: (Phase.ACCEPTED, (Act.TELL_ACCEPT,)),
            Cue.ASSIGNED: (Phase.PREPARING, (Act.PREPARE,)),
            Cue.ASSIGNED_LATE: _END,
            Cue.STOP_ORDERED: _END_TOLD,
            Cue.FENCED: _END,
            Cue.SHUT_DOWN: _END,
            Cue.WITHDRAWN: _FORGET,
            Cue.RELEASED: _FORGET,
            # Nothing of it exists but our word, and the run cannot be offered again while we list it.
            Cue.UNKNOWN: _FORGET,
        },
        Phase.PREPARING: {
            Cue.PREPARED: (Phase.FORKING, (Act.FORK,)),
            Cue.PREPARE_FAILED: _END,
            Cue.START_TIMED_OUT: _END,
            Cue.LOSS_PASSED: _END,
            Cue.STOP_ORDERED: _END_TOLD,
            Cue.FENCED: _END,
            Cue.SHUT_DOWN: _END,
        },
        Phase.FORKING: {
            Cue.STARTED: (Phase.RUNNING, (Act.TELL_STARTED,)),
            Cue.ENDED: _EXITED,
            Cue.NEVER_STARTED: _UNSTARTED,
            Cue.STOP_ORDERED: _STOP_TOLD,
            Cue.FENCED: _STOP,
            Cue.SHUT_DOWN: _STOP,
        },
        Phase.RUNNING: {
            Cue.STOP_MOVED: (Phase.STOPPING, (Act.TELL_STOP,)),  # the shim's own timeouts stop it too
            Cue.ENDED: _EXITED,
            Cue.NEVER_STARTED: _UNSTARTED,
            Cue.STOP_ORDERED: _STOP_TOLD,
            Cue.FENCED: _STOP,
            Cue.SHUT_DOWN: _STOP,
        },
        Phase.STOPPING: {
            Cue.STARTED: (Phase.STOPPING, (Act.TELL_STARTED,)),
            Cue.STOP_MOVED: (Phase.STOPPING, (Act.TELL_STOP,)),
            Cue.ENDED: _EXITED,
            Cue.NEVER_STARTED: _UNSTARTED,
            Cue.STOP_ORDERED: _STOP_TOLD,
            Cue.FENCED: _STOP,
            Cue.SHUT_DOWN: _STOP,
        },
        Phase.ENDING: {
            Cue.STOP_ORDERED: (Phase.ENDING, (Act.TELL_STOP,)),
            Cue.ENDED: _EXITED,
            Cue.NEVER_STARTED: _UNSTARTED,
        },
        Phase.UNSTARTED: {
            Cue.ASSIGNED: _UNSTARTED,
            Cue.ASSIGNED_LATE: _UNSTARTED,
            Cue.STOP_ORDERED: _UNSTARTED,
            Cue.EXIT_WANTED: _UNSTARTED,
            # No evidence is lost with it: nothing was executed, and the epoch is out of date.
            Cue.FENCED: _FORGET,
            Cue.UNKNOWN: _FORGET,
            Cue.WITHDRAWN: _FORGET,
            Cue.RELEASED: _FORGET,
        },
        Phase.EXITED: {
            Cue.ASSIGNED: _EXITED,
            Cue.ASSIGNED_LATE: _EXITED,
            Cue.STOP_ORDERED: _EXITED,
            Cue.EXIT_WANTED: _EXITED,
            Cue.RELEASED: _FORGET,
        },
        Phase.FORGETTING: {
            Cue.FORGOTTEN: (Phase.FORGETTING, (Act.DROP,)),
        },
        Phase.QUARANTINED: {
            Cue.RELEASED: (Phase.QUARANTINED, (Act.DROP,)),
        },
        Phase.UNKNOWN_SHIM: {
            Cue.ENDED: _EXITED,
            Cue.NEVER_STARTED: _UNSTARTED,
            Cue.STOP_ORDERED: _TERMINATE,
            Cue.FENCED: _TERMINATE,
            Cue.SHUT_DOWN: _TERMINATE,
        },
    }
)


def move(phase: Phase, cue: Cue) -> Move:
    """The next phase and what to do; the same phase and nothing for a repeat or a cue that comes too late."""
    return ATTEMPT_TABLE[phase].get(cue, (phase, ()))
