"""The wire and the domain: total in both directions, and nothing of a later version breaks it."""

from __future__ import annotations

import pytest
from banksman.v1 import log_pb2 as log
from banksman.v1 import run_pb2 as run
from banksman.v1 import session_pb2 as pb
from banksman.v1 import spec_pb2 as spec
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from runner_agent.domain import log as log_domain
from runner_agent.domain import messages as domain
from runner_agent.domain.assignment import Assignment, StepKind
from runner_agent.domain.exit_report import ExitReport, Outcome, StepReport
from runner_agent.domain.ids import AttemptKey, RunId
from runner_agent.domain.reason import Reason
from runner_agent.session.convert import from_wire, to_wire
from runner_agent.session.convert_values import duration, seconds, text, timestamp
from runner_agent.session.serialized import serialized

KEY = AttemptKey(run_id=RunId("r"), lease_epoch=1 << 60)
WIRE_KEY = pb.AttemptKey(run_id="r", lease_epoch=1 << 60)


@pytest.mark.parametrize(
    ("members", "proto", "prefix"),
    [
        (Reason, run.Reason, "REASON_"),
        (StepKind, spec.StepKind, "STEP_KIND_"),
        (domain.VerdictKind, pb.VerdictKind, "VERDICT_KIND_"),
    ],
)
def test_every_value_of_an_enum_that_is_heard_has_a_member(members: type, proto: object, prefix: str) -> None:
    names = {name.removeprefix(prefix) for name in proto.keys()}  # type: ignore[attr-defined]  # noqa: SIM118
    assert {member.value for member in members} == names  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("members", "proto", "prefix"),
    [
        (Outcome, pb.ExitOutcome, "EXIT_OUTCOME_"),
        (domain.HeldPhase, pb.HeldPhase, "HELD_PHASE_"),
        (domain.StopPhase, run.StopPhase, "STOP_PHASE_"),
        (domain.RejectReason, pb.RejectReason, "REJECT_REASON_"),
        (log_domain.LogKind, log.LogKind, "LOG_KIND_"),
    ],
)
def test_every_value_that_is_said_exists_on_the_wire(members: type, proto: object, prefix: str) -> None:
    for member in members:  # type: ignore[attr-defined]
        assert proto.Value(f"{prefix}{member.value}")  # type: ignore[attr-defined]


def test_every_kind_of_server_message_is_understood() -> None:
    kinds = {field.name for field in pb.SessionResponse.DESCRIPTOR.oneofs_by_name["message"].fields}
    for kind in kinds:
        response = pb.SessionResponse()
        getattr(response, kind).SetInParent()
        assert not isinstance(from_wire(response), domain.Unintelligible), kind
    assert isinstance(from_wire(pb.SessionResponse()), domain.Unintelligible)


def test_every_kind_of_runner_message_can_be_said() -> None:
    report = ExitReport(outcome=Outcome.ENDED_WELL, reason=Reason.EXIT_ZERO)
    entry = domain.HeldAttempt(key=KEY, phase=domain.HeldPhase.EXITED, exit=report)
    said: tuple[domain.RunnerMessage, ...] = (
        domain.Hello(
            protocol_min=1, protocol_max=1, agent_version="1", capabilities=(("command", "1"),), labels={"a": "b"},
            slots=1, boot_id="b", state_directory_id="s", inventory=(entry,), more=False, warnings=("w",),
            draining=True,
        ),
        domain.Heartbeat(seq=1, free_slots=1, load=0.5, disk_free_bytes=1, draining=False, held=(entry,)),
        domain.OfferReply(key=KEY),
        domain.AttemptStarted(key=KEY, pid=1, started_at_ns=1),
        domain.StepEnded(key=KEY, step=StepReport(index=0)),
        domain.AttemptExited(key=KEY, exit=report),
        domain.StopStatus(key=KEY, phase=domain.StopPhase.KILLED),
        log_domain.LogChunk(key=KEY, offset=0, records=()),
        domain.DrainNotice(reason="x"),
    )  # fmt: skip
    kinds = {to_wire(message).WhichOneof("message") for message in said}
    assert kinds == {field.name for field in pb.SessionRequest.DESCRIPTOR.oneofs_by_name["message"].fields}


def test_a_refusal_and_an_acceptance() -> None:
    refused = to_wire(domain.OfferReply(key=KEY, reject=domain.RejectReason.LOW_DISK, note="n")).offer_reply
    assert (refused.accept, refused.reject_reason, refused.note) == (False, pb.REJECT_REASON_LOW_DISK, "n")
    assert to_wire(domain.OfferReply(key=KEY)).offer_reply.accept


def test_an_exit_record_keeps_what_is_absent_absent() -> None:
    bare = to_wire(
        domain.AttemptExited(key=KEY, exit=ExitReport(outcome=Outcome.SHIM_DIED, reason=Reason.SHIM_DIED))
    ).attempt_exited
    assert bare.key == WIRE_KEY
    for name in ("exit_code", "signal", "started_at", "ended_at", "signalled_at", "killed_at"):
        assert not bare.exit.HasField(name), name
    assert bare.exit.stopped_by == run.REASON_UNSPECIFIED
    full = ExitReport(
        outcome=Outcome.ENDED_BADLY, reason=Reason.SIGNALLED, exit_code=0, signal=9, stopped_by=Reason.USER_CANCEL,
        gaps=((1, 5),), started_at_ns=1_500_000_000, steps=(StepReport(index=1, exit_code=0, name="s"),),
    )  # fmt: skip
    said = to_wire(domain.AttemptExited(key=KEY, exit=full)).attempt_exited.exit
    assert (said.HasField("exit_code"), said.signal, said.stopped_by) == (True, 9, run.REASON_USER_CANCEL)
    assert (said.gaps[0].from_offset, said.gaps[0].to_offset) == (1, 5)
    assert (said.started_at.seconds, said.started_at.nanos) == (1, 500_000_000)
    assert (said.steps[0].index, said.steps[0].HasField("exit_code"), said.steps[0].HasField("signal")) == (
        1,
        True,
        False,
    )


def test_log_records_with_bytes_and_gaps() -> None:
    records = (
        log_domain.LogRecord(kind=log_domain.LogKind.STDERR, step=2, at_ns=1, data=b"\x00\xff"),
        log_domain.LogRecord(kind=log_domain.LogKind.SYSTEM, step=0, at_ns=0, gap_bytes=10),
    )
    chunk = log_domain.LogChunk(key=KEY, offset=7, records=records)
    assert chunk.end_offset == 19
    said = to_wire(chunk).log_chunk
    assert (said.offset, said.records[0].data, said.records[0].kind) == (7, b"\x00\xff", log.LOG_KIND_STDERR)
    assert (said.records[1].gap_bytes, said.records[1].data) == (10, b"")


_RECORDS = st.builds(
    log_domain.LogRecord,
    kind=st.sampled_from(log_domain.LogKind),
    step=st.integers(0, 300),
    at_ns=st.integers(0, 1 << 62),
    data=st.one_of(st.binary(max_size=300), st.sampled_from([127, 128, 16_383, 16_384, 70_000]).map(bytes)),
    gap_bytes=st.integers(0, 1 << 40),
)


@given(
    chunk=st.builds(
        log_domain.LogChunk,
        key=st.builds(AttemptKey, run_id=st.text(max_size=40), lease_epoch=st.integers(0, 1 << 62)),
        offset=st.integers(0, 1 << 62),
        records=st.lists(_RECORDS, max_size=5).map(tuple),
    )
)
def test_the_bytes_of_a_chunk_are_those_of_its_message(chunk: log_domain.LogChunk) -> None:
    assert pb.SessionRequest.FromString(serialized(chunk)) == to_wire(chunk)


def test_everything_else_is_serialized_as_its_message() -> None:
    notice = domain.DrainNotice(reason="x")
    assert serialized(notice) == to_wire(notice).SerializeToString()


def test_an_assignment_has_the_contracts_defaults() -> None:
    heard = from_wire(pb.SessionResponse(assignment=pb.Assignment(key=WIRE_KEY)))
    assert isinstance(heard, Assignment)
    assert (heard.grace_s, heard.stop_signal, heard.start_timeout_s, heard.log_limit_bytes) == (
        10.0, "SIGTERM", 600.0, 1 << 30,
    )  # fmt: skip
    assert (heard.timeout_s, heard.idle_timeout_s, heard.lost_after_s) == (None, None, None)


def test_an_assignment_is_heard_whole() -> None:
    message = pb.Assignment(
        key=WIRE_KEY,
        secrets={"api": b"\xff"},
        env={"X": "y"},
        lost_after=Duration(seconds=60),
        project_name="p",
        task_name="t",
        attempt_number=4,
        spec=spec.RunSpec(
            slots=2,
            timeout=Duration(nanos=500_000_000),
            grace=Duration(),
            stop_signal="SIGINT",
            merge_output=True,
            env=[spec.EnvVar(name="A", value=""), spec.EnvVar(name="B", secret_ref="api")],
            steps=[
                spec.Step(
                    kind=spec.STEP_KIND_MAIN,
                    name="n",
                    always=True,
                    timeout=Duration(seconds=3),
                    command=spec.Command(argv=["a", ""], stdin=b"\x00", success_exit_codes=[0, 2], interpreter=["i"]),
                )
            ],
        ),
    )
    heard = from_wire(pb.SessionResponse(assignment=message))
    assert isinstance(heard, Assignment)
    assert heard.key == KEY
    assert (heard.slots, heard.timeout_s, heard.grace_s, heard.stop_signal) == (2, 0.5, 0.0, "SIGINT")
    assert (heard.secrets, heard.server_env, heard.lost_after_s) == ({"api": b"\xff"}, {"X": "y"}, 60.0)
    assert [(v.name, v.value, v.secret_ref) for v in heard.env] == [("A", "", None), ("B", "", "api")]
    (step,) = heard.steps
    assert (step.kind, step.name, step.always, step.timeout_s) == (StepKind.MAIN, "n", True, 3.0)
    assert (step.command.argv, step.command.stdin, step.command.success_exit_codes) == (("a", ""), b"\x00", (0, 2))


def test_numbers_that_this_build_does_not_know_become_unspecified() -> None:
    welcome = pb.Welcome(verdicts=[pb.Verdict(key=WIRE_KEY, kind=99)])  # type: ignore[arg-type]
    heard = from_wire(pb.SessionResponse(welcome=welcome))
    assert isinstance(heard, domain.Welcome)
    assert heard.verdicts[0].kind is domain.VerdictKind.UNSPECIFIED
    stop = from_wire(pb.SessionResponse(stop=pb.Stop(key=WIRE_KEY, reason=9_999)))  # type: ignore[arg-type]
    assert isinstance(stop, domain.Stop)
    assert (stop.reason, stop.signal) == (Reason.UNSPECIFIED, "SIGTERM")


def test_a_welcome_without_intervals_gets_usable_ones() -> None:
    heard = from_wire(pb.SessionResponse(welcome=pb.Welcome(protocol=1)))
    assert isinstance(heard, domain.Welcome)
    assert (heard.heartbeat_interval_s, heard.lease_s) == (5.0, 15.0)


@given(st.floats(0, 1e7, allow_nan=False))
def test_durations_come_back(value_s: float) -> None:
    assert abs(seconds(duration(value_s)) - value_s) < 1e-6


@given(st.integers(0, 4 * 10**18))
def test_instants_come_back(wall_ns: int) -> None:
    made = timestamp(wall_ns)
    assert made is not None
    assert made.seconds * 10**9 + made.nanos == wall_ns


@given(st.text(alphabet=st.characters()))
def test_any_text_of_the_host_can_be_told(value: str) -> None:
    pb.OfferReply(note=text(value))
