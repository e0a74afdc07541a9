"""Words of the session on their way: no message grows with what a runner holds, and nobody is left out for ever."""

import sys

import pytest
from banksman.v1 import log_pb2, run_pb2
from banksman.v1 import session_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp
from structlog.testing import capture_logs

from control_plane.api.session_messages import MOST_ASSIGNMENT_BYTES, bounded, from_runner, to_runner
from control_plane.domain.attempt import StopPhase
from control_plane.domain.errors import InvalidArgument
from control_plane.domain.ids import AttemptKey, RunId
from control_plane.domain.log import LogKind
from control_plane.domain.session import (
    Assignment,
    ExitOutcome,
    Heartbeat,
    HeldPhase,
    LogChunk,
    Verdict,
    VerdictKind,
)
from control_plane.domain.spec import Command, RunSpec, Step, StepKind


def start(name: str, size_bytes: int) -> Verdict:
    key = AttemptKey(run_id=RunId(name), lease_epoch=1)
    step = Step(kind=StepKind.MAIN, command=Command(argv=("true",), stdin=b"x" * size_bytes))
    assignment = Assignment(key=key, spec=RunSpec(steps=(step,)), lost_after_s=None)
    return Verdict(key=key, kind=VerdictKind.START, assignment=assignment)


def keep(name: str) -> Verdict:
    return Verdict(key=AttemptKey(run_id=RunId(name), lease_epoch=1), kind=VerdictKind.KEEP)


def names(verdicts: tuple[Verdict, ...]) -> str:
    return "".join(verdict.key.run_id for verdict in verdicts)


def test_assignments_are_bounded_and_everything_else_is_said():
    large = MOST_ASSIGNMENT_BYTES // 2 + 1
    verdicts = (start("a", large), keep("b"), start("c", large), start("d", 10), keep("e"))
    assert names(bounded(verdicts)) == "abde"
    assert [names(bounded(verdicts, turn=turn)) for turn in (1, 2, 3)] == ["bcde", "abde", "abde"]


@pytest.mark.parametrize(("secrets", "kept"), [({}, 1), ({"TOKEN": b"hidden"}, 0)])
def test_a_spec_that_may_hold_a_secret_stays_nowhere(secrets: dict[str, bytes], kept: int) -> None:
    step = Step(kind=StepKind.MAIN, command=Command(argv=("true",), stdin=b"hidden"))
    spec = RunSpec(steps=(step,))
    key = AttemptKey(run_id=RunId("a"), lease_epoch=1)
    references = sys.getrefcount(spec)
    told = Assignment(key=key, spec=spec, secrets=secrets, lost_after_s=None)
    assert to_runner(told).assignment.spec.steps[0].command.stdin == b"hidden"
    del told
    assert sys.getrefcount(spec) == references + kept


def test_one_that_is_too_large_alone_is_said_alone():
    huge = start("a", 2 * MOST_ASSIGNMENT_BYTES)
    assert bounded((huge,)) == (huge,)
    assert names(bounded((huge, start("b", 10)))) == "a"
    assert names(bounded((huge, start("b", 10)), turn=1)) == "b"


def test_unknown_values_become_what_is_safe_and_unknown_keys_are_refused():
    key = pb.AttemptKey(run_id="r", lease_epoch=1)
    steps = [run_pb2.StepResult(kind=99, index=0)]
    record = pb.ExitRecord(outcome=99, reason=9999, steps=steps, stopped_by=9999)
    entry = pb.HeldAttempt(key=key, phase=99, exit=record, stop=pb.StopStatus(key=key, phase=99))
    with capture_logs() as lines:
        beat = from_runner(pb.SessionRequest(heartbeat=pb.Heartbeat(seq=1, held=[entry])))
    assert isinstance(beat, Heartbeat)
    (held,) = beat.held
    assert held.phase is HeldPhase.UNKNOWN_SHIM
    assert held.stop is not None
    assert held.stop.phase is StopPhase.RECEIVED
    assert held.exit is not None
    assert (held.exit.outcome, held.exit.reason, held.exit.stopped_by) == (ExitOutcome.SHIM_DIED, None, None)
    assert held.exit.steps[0].kind is StepKind.SETUP
    (line,) = lines
    assert (line["log_level"], line["times"]) == ("warning", 6)
    assert "heartbeat.held[0].phase = 99" in line["what"]
    chunk = pb.LogChunk(key=key, records=[log_pb2.LogRecord(kind=99, at=Timestamp(seconds=1), data=b"x")])
    read = from_runner(pb.SessionRequest(log_chunk=chunk))
    assert isinstance(read, LogChunk)
    assert read.records[0].kind is LogKind.SYSTEM
    for bad in (pb.StopStatus(phase=99), pb.StopStatus(key=key)):
        with pytest.raises(InvalidArgument):
            from_runner(pb.SessionRequest(stop_status=bad))
