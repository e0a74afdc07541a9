"""Entities and messages: there and back again, total, and every bad field named."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import pytest
from banksman.v1 import run_pb2, session_pb2, spec_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane.api import convert, mapping, records, session_messages
from control_plane.api.mapping import Plan
from control_plane.domain.errors import ErrorCode, InvalidArgument
from control_plane.domain.session import AttemptEventReport, ToRunner
from control_plane.domain.spec import Command, EnvVar, LossPolicy, RunSpec, Step
from control_plane.domain.spec_rules import validate_spec

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WORDS = st.text(min_size=1, max_size=6)


def values(hint: object) -> st.SearchStrategy:
    """Anything of a type that can travel. Zeros that mean "not said" are left out: they come back as the default."""
    while hasattr(hint, "__supertype__"):
        hint = hint.__supertype__
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return st.none() | st.one_of(*(values(each) for each in arguments if each is not types.NoneType))
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin in (Mapping, dict):
        return st.dictionaries(WORDS, values(arguments[1]), max_size=3)
    if origin is frozenset:
        return st.frozensets(values(arguments[0]), max_size=3)
    if dataclasses.is_dataclass(hint):
        return entities(hint)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return st.sampled_from(hint)
    simple = {
        str: WORDS,
        bytes: st.binary(min_size=1, max_size=6),
        bool: st.booleans(),
        int: st.integers(1, 2**30),  # some fields of messages are sums
        float: st.integers(1, 10**9).map(lambda milliseconds: milliseconds / 1000),
        datetime: st.integers(1, 2 * 10**17).map(lambda microseconds: EPOCH + timedelta(microseconds=microseconds)),
    }
    return simple[hint]


def entities(cls: type) -> st.SearchStrategy:
    hints = typing.get_type_hints(cls)
    fields = {field.name: values(hints[field.name]) for field in dataclasses.fields(cls)}
    return st.fixed_dictionaries(fields).map(lambda words: cls(**_chosen(cls, words)))


def _chosen(cls: type, words: dict) -> dict:
    """Of the fields of a oneof, one."""
    if cls is EnvVar and words["value"] is not None:
        words |= {"secret_ref": None}
    if cls is LossPolicy and words["never"]:
        words |= {"lost_after_s": None}
    if cls is AttemptEventReport and words["step_ended"] is not None:
        words |= {"progress": None}
    return words


BOTH_WAYS = {
    plan.entity.__name__: plan
    for plan in (
        convert.SPEC,
        convert.OPTIONS,
        convert.STEP_RESULT,
        convert.LOG_RECORD,
        convert.LOG_GAP,
        convert.RUN_EVENT,
        *session_messages.FROM_RUNNER.values(),
        *session_messages.TO_RUNNER.values(),
    )
}


@pytest.mark.parametrize("name", sorted(BOTH_WAYS))
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_there_and_back_again(name, data):
    plan = BOTH_WAYS[name]
    entity = data.draw(entities(plan.entity))
    message = plan.encode(entity)
    wire = plan.message.FromString(message.SerializeToString())
    assert _told(plan.decode(wire)) == _told(entity)


def _told(entity):
    """Assignment hides itself from repr, not from comparison."""
    return dataclasses.asdict(entity)


@settings(max_examples=20, deadline=None)
@given(entities(RunSpec))
def test_equal_specs_are_equal_bytes(spec):
    codec = convert.ProtoSpecCodec()
    data = codec.encode(spec)
    assert codec.decode(data) == spec
    assert codec.encode(codec.decode(data)) == data


STORED = {
    plan.entity.__name__: plan
    for plan in (
        convert.RUN,
        convert.ATTEMPT,
        records.TASK,
        records.PROJECT,
        records.PRINCIPAL,
        records.TOKEN,
        records.JOIN_TOKEN,
        records.RUNNER,
        records.SECRET,
        records.SCHEDULE,
    )
}


@pytest.mark.parametrize("name", sorted(STORED))
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_is_stored_can_be_shown_and_hides_what_is_secret(name, data):
    plan = STORED[name]
    message = plan.encode(data.draw(entities(plan.entity)))
    assert plan.message.FromString(message.SerializeToString()) == message
    assert not {"secret_digest", "public_key", "spec_sha256"} & set(plan.message.DESCRIPTOR.fields_by_name)


def anything(descriptor: Descriptor, depth: int = 0) -> st.SearchStrategy:
    """A message with any values that its wire format can hold."""
    fields = [field for field in descriptor.fields if field.message_type is None or depth < 4]
    cls = message_factory.GetMessageClass(descriptor)
    words = st.fixed_dictionaries({}, optional={field.name: any_value(field, depth) for field in fields})
    return words.map(lambda chosen: cls(**_one_of_each(descriptor, chosen)))


def any_value(field: FieldDescriptor, depth: int) -> st.SearchStrategy:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return st.just({})
    kinds = {
        FieldDescriptor.CPPTYPE_STRING: st.binary(max_size=3)
        if field.type == field.TYPE_BYTES
        else st.text(max_size=3),
        FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
        FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
        FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
        FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
        FieldDescriptor.CPPTYPE_ENUM: st.integers(-3, 50),
    }
    one = anything(field.message_type, depth + 1) if field.message_type else kinds[field.cpp_type]
    return st.lists(one, max_size=2) if field.is_repeated else one


def _one_of_each(descriptor: Descriptor, chosen: dict) -> dict:
    for oneof in descriptor.oneofs:
        for field in [field.name for field in oneof.fields if field.name in chosen][1:]:
            del chosen[field]
    return chosen


def attempted(call):
    """What the call gives and None, or None and the fields that it refuses."""
    try:
        return call(), None
    except InvalidArgument as error:
        return None, error.violations


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(anything(session_pb2.SessionRequest.DESCRIPTOR))
def test_any_message_is_understood_or_refused_with_its_fields(request):
    _, violations = attempted(lambda: session_messages.from_runner(request))
    assert violations != ()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(anything(spec_pb2.RunSpec.DESCRIPTOR))
def test_any_spec_is_understood_or_refused_with_its_fields(message):
    spec, violations = attempted(lambda: convert.decoded(convert.SPEC, message, "spec"))
    if violations is None:
        validate_spec(spec, lease_s=15.0)
    else:
        assert violations
        assert all(violation.field.startswith("spec") for violation in violations)


def test_every_word_of_the_session_has_a_plan():
    said = set(session_pb2.SessionRequest.DESCRIPTOR.oneofs_by_name["message"].fields)
    assert {field.name for field in said} == set(session_messages.FROM_RUNNER)
    told = {field.name for field in session_pb2.SessionResponse.DESCRIPTOR.oneofs_by_name["message"].fields}
    assert told == set(session_messages.TO_RUNNER)
    assert {plan.entity for plan in session_messages.TO_RUNNER.values()} == set(typing.get_args(ToRunner))


def test_what_is_present_and_zero_stays_so():
    spec = RunSpec(
        steps=(Step(command=Command(argv=("",))),), env=(EnvVar(name="A", value=""),), grace_s=0.0, loss=LossPolicy()
    )
    assert convert.ProtoSpecCodec().decode(convert.ProtoSpecCodec().encode(spec)) == spec
    result = convert.STEP_RESULT.decode(run_pb2.StepResult(index=0, kind=spec_pb2.STEP_KIND_MAIN, exit_code=0))
    assert (result.exit_code, result.signal) == (0, None)


def test_all_unknown_values_and_missing_fields_are_named_at_once():
    message = spec_pb2.RunSpec(
        steps=[spec_pb2.Step(kind=99, command=spec_pb2.Command(argv=["x"])), spec_pb2.Step()],
        selectors=[spec_pb2.Selector(key="os")],
    )
    with pytest.raises(InvalidArgument) as caught:
        convert.decoded(convert.SPEC, message, "spec")
    assert caught.value.code is ErrorCode.INVALID_FIELDS
    named = {violation.field: violation.description for violation in caught.value.violations}
    assert named == {
        "spec.steps[0].kind": "has the unknown value 99",
        "spec.steps[1].command": "is required",
        "spec.selectors[0].operator": "is required",
    }


def test_a_time_that_no_calendar_has_is_named():
    message = run_pb2.RunOptions(not_before=Timestamp(seconds=10**15))
    with pytest.raises(InvalidArgument) as caught:
        convert.decoded(convert.OPTIONS, message, "options")
    assert [violation.field for violation in caught.value.violations] == ["options.not_before"]


def test_a_message_of_a_later_version_is_passed_over():
    assert session_messages.from_runner(session_pb2.SessionRequest()) is None
    event = session_pb2.AttemptEvent(key=session_pb2.AttemptKey(run_id="r", lease_epoch=1))
    assert session_messages.from_runner(session_pb2.SessionRequest(attempt_event=event)) is None


@given(st.integers(-(10**15), 10**15))
def test_durations_keep_microseconds(microseconds):
    given_s = microseconds / 1_000_000
    message = mapping.duration(given_s)
    assert Duration(seconds=message.seconds, nanos=message.nanos).ToMicroseconds() == pytest.approx(microseconds, abs=1)
    assert mapping.seconds(message) == pytest.approx(given_s, abs=1e-6)


def test_a_field_without_a_partner_is_an_error_when_the_plan_is_made():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class More:
        rel: str
        title: str
        url: str
        colour: str

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Less:
        rel: str

    with pytest.raises(TypeError, match="colour"):
        Plan(More, run_pb2.Link)
    with pytest.raises(TypeError, match="title"):
        Plan(Less, run_pb2.Link)
