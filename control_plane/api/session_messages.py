"""The session's words as messages: what a runner says becomes plain values, what it is told becomes a response."""

from __future__ import annotations

from typing import Any

from banksman.v1 import session_pb2 as pb
from google.protobuf.message import Message

from control_plane.api.convert import LOG_GAP, LOG_RECORD, PROGRESS, RESOURCE_USAGE, SPEC, SPEC_FOR_ONE, STEP_RESULT
from control_plane.api.mapping import BadFields, Plan, within
from control_plane.api.newer_words import replace_newer
from control_plane.domain import session as words
from control_plane.domain.attempt import StepResult
from control_plane.domain.errors import invalid_fields
from control_plane.domain.ids import AttemptKey
from control_plane.domain.log import LogGap, LogRecord
from control_plane.domain.progress import Progress, ResourceUsage
from control_plane.domain.spec import RunSpec
from control_plane.telemetry import logger

log = logger("api")

# Of the assignments in one Welcome or HeartbeatAck, unless a single one is larger.
MOST_ASSIGNMENT_BYTES = 2 << 20
# Of the unknown values in one message.
MOST_TOLD = 5

KEY = Plan(AttemptKey, pb.AttemptKey)
STOP_STATUS = Plan(words.StopStatus, pb.StopStatus, nested={AttemptKey: KEY})
EXIT = Plan(
    words.ExitRecord,
    pb.ExitRecord,
    nested={StepResult: STEP_RESULT, LogGap: LOG_GAP, Progress: PROGRESS, ResourceUsage: RESOURCE_USAGE},
)
HELD = Plan(
    words.HeldAttempt,
    pb.HeldAttempt,
    nested={AttemptKey: KEY, words.ExitRecord: EXIT, words.StopStatus: STOP_STATUS, Progress: PROGRESS},
)
CAPABILITY = Plan(words.Capability, pb.Capability)
HELLO = Plan(words.Hello, pb.Hello, nested={words.Capability: CAPABILITY, words.HeldAttempt: HELD})
STOP = Plan(words.Stop, pb.Stop, nested={AttemptKey: KEY})
_ASSIGNMENT_FOR_ONE = Plan(words.Assignment, pb.Assignment, nested={AttemptKey: KEY, RunSpec: SPEC_FOR_ONE})


class _Assignments(Plan[words.Assignment, pb.Assignment]):
    """What comes with secrets may have them in its spec, too: that is not remembered."""

    def encode(self, entity: words.Assignment) -> pb.Assignment:
        return _ASSIGNMENT_FOR_ONE.encode(entity) if entity.secrets else super().encode(entity)


ASSIGNMENT = _Assignments(words.Assignment, pb.Assignment, nested={AttemptKey: KEY, RunSpec: SPEC})
VERDICT = Plan(
    words.Verdict,
    pb.Verdict,
    nested={AttemptKey: KEY, words.Assignment: ASSIGNMENT, words.Stop: STOP},
)
_KEYED: dict[Any, Plan[Any, Any]] = {AttemptKey: KEY}

# By the name of the oneof's field.
FROM_RUNNER: dict[str, Plan[Any, Any]] = {
    "hello": HELLO,
    "heartbeat": Plan(words.Heartbeat, pb.Heartbeat, nested={words.HeldAttempt: HELD}),
    "offer_reply": Plan(words.OfferReply, pb.OfferReply, nested=_KEYED),
    "attempt_started": Plan(words.AttemptStarted, pb.AttemptStarted, nested=_KEYED),
    "attempt_event": Plan(
        words.AttemptEventReport,
        pb.AttemptEvent,
        nested={**_KEYED, StepResult: STEP_RESULT, Progress: PROGRESS},
    ),
    "attempt_exited": Plan(words.AttemptExited, pb.AttemptExited, nested={**_KEYED, words.ExitRecord: EXIT}),
    "stop_status": STOP_STATUS,
    "log_chunk": Plan(words.LogChunk, pb.LogChunk, nested={**_KEYED, LogRecord: LOG_RECORD}),
    "drain_notice": Plan(words.DrainNotice, pb.DrainNotice),
}
TO_RUNNER: dict[str, Plan[Any, Any]] = {
    "welcome": Plan(words.Welcome, pb.Welcome, nested={words.Verdict: VERDICT}),
    "heartbeat_ack": Plan(words.HeartbeatAck, pb.HeartbeatAck, nested={words.Verdict: VERDICT}),
    "offer": Plan(words.Offer, pb.Offer, nested=_KEYED),
    "withdraw": Plan(words.Withdraw, pb.Withdraw, nested=_KEYED),
    "assignment": ASSIGNMENT,
    "fenced": Plan(words.Fenced, pb.Fenced, nested=_KEYED),
    "release": Plan(words.Release, pb.Release, nested=_KEYED),
    "stop": STOP,
    "log_ack": Plan(words.LogAck, pb.LogAck, nested=_KEYED),
    "log_rewind": Plan(words.LogRewind, pb.LogRewind, nested=_KEYED),
    "drain": Plan(words.Drain, pb.Drain),
    "resume": Plan(words.Resume, pb.Resume),
    "goodbye": Plan(words.Goodbye, pb.Goodbye),
}
_FIELD_OF = {plan.entity: field for field, plan in TO_RUNNER.items()}


def to_runner(message: words.ToRunner) -> pb.SessionResponse:
    """One message to a runner."""
    field = _FIELD_OF[type(message)]
    return pb.SessionResponse(**{field: TO_RUNNER[field].encode(message)})


def bounded(verdicts: tuple[words.Verdict, ...], *, turn: int = 0) -> tuple[words.Verdict, ...]:
    """The same verdicts, with no more assignments than one message should carry; the others are left unsaid.

    Whoever is left out is still listed by the next heartbeat, and so gets its verdict then.

    Args:
        turn: begins with another one each time, so that nobody is left out for ever.
    """
    starts = [verdict for verdict in verdicts if verdict.assignment is not None]
    if len(starts) <= 1:
        return verdicts
    first = turn % len(starts)
    left_bytes, said = MOST_ASSIGNMENT_BYTES, set[AttemptKey]()
    for verdict in (*starts[first:], *starts[:first]):
        size_bytes = VERDICT.encode(verdict).ByteSize()
        if not said or size_bytes <= left_bytes:
            said.add(verdict.key)
            left_bytes -= size_bytes
    return tuple(verdict for verdict in verdicts if verdict.assignment is None or verdict.key in said)


def from_runner(request: pb.SessionRequest) -> words.FromRunner | None:
    """What a runner said; None for a message of a kind that this version does not know.

    Values of a newer version are passed over with a warning: the same report would come again in the next session.
    Raises InvalidArgument naming every other field that has no meaning.
    """
    field = request.WhichOneof("message")
    if field is None:
        return None
    if field == "attempt_event" and request.attempt_event.WhichOneof("event") is None:
        return None
    said = getattr(request, field)
    try:
        return _decoded(field, said)
    except BadFields as error:
        newer = replace_newer(said, field)
        if not newer:
            raise invalid_fields(*(within(field, violation) for violation in error.violations)) from error
    log.warning("a runner used words of a newer version", what=", ".join(newer[:MOST_TOLD]), times=len(newer))
    try:
        return _decoded(field, said)
    except BadFields as error:
        raise invalid_fields(*(within(field, violation) for violation in error.violations)) from error


def _decoded(field: str, said: Message) -> words.FromRunner:
    message: words.FromRunner = FROM_RUNNER[field].decode(said)
    return message
