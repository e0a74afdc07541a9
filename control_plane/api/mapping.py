"""How an entity and its message are turned into each other: planned once from both declarations, and total.

A plan pairs every field of a message with one of the entity's: the same name, or the name with `_s` for a Duration.
What has no partner must be named when the plan is made, so that a new field cannot be forgotten silently.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from control_plane.api.mapping_errors import BadFields, within
from control_plane.api.values import text_of, texts_of, value_of, values_of
from control_plane.domain.errors import FieldViolation

__all__ = ["BadFields", "Plan", "decode_each", "duration", "enum_turns", "instant", "seconds", "timestamp", "within"]

E = TypeVar("E")
M = TypeVar("M", bound=Message)

Turn = Callable[[Any], Any]
_VALUE = "google.protobuf.Value"
MICROSECONDS = 1_000_000
NANOSECONDS = 1_000_000_000


def duration(seconds: float | None) -> Duration | None:
    """Seconds as a Duration, to the microsecond."""
    if seconds is None:
        return None
    message = Duration()
    message.FromMicroseconds(round(seconds * MICROSECONDS))
    return message


def seconds(value: Duration) -> float:
    """A Duration in seconds."""
    return (value.seconds * NANOSECONDS + value.nanos) / NANOSECONDS


def timestamp(instant: datetime | None) -> Timestamp | None:
    """An aware instant as a Timestamp, to the microsecond."""
    if instant is None:
        return None
    message = Timestamp()
    message.FromDatetime(instant)
    return message


def instant(value: Timestamp) -> datetime:
    """A Timestamp as an aware UTC instant. Raises BadFields when no calendar has it."""
    try:
        return value.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise BadFields(FieldViolation(field="", description="is not a valid time")) from error


def enum_turns(cls: type[StrEnum], descriptor: EnumDescriptor) -> tuple[Turn, Turn]:
    """Both directions of an enum whose names are the proto's without the prefix; 0 is None."""
    prefix = descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")
    numbers = {member: descriptor.values_by_name[prefix + member.value].number for member in cls}
    members = {number: member for member, number in numbers.items()}

    def decode(number: int) -> StrEnum | None:
        if number == 0:
            return None
        try:
            return members[number]
        except KeyError:
            raise BadFields(FieldViolation(field="", description=f"has the unknown value {number}")) from None

    return numbers.__getitem__, decode


@dataclasses.dataclass(slots=True)
class _Step:
    """One field of a plan."""

    attribute: str
    field: str
    encode: Turn | None
    decode: Turn | None
    present: Callable[[Message], bool]
    optional: bool
    has_default: bool
    # In a oneof, and not optional: its zero means that it is not the one chosen.
    choice: bool


class Plan(Generic[E, M]):
    """Both directions between one entity class and one message class.

    Args:
        nested: plans of entity classes that occur in fields.
        stored: the entity is stored and has columns of its own, which do not travel; such a plan only encodes.
        absent: message fields that the entity does not have.
        computed: message fields that are computed from the entity.
    """

    def __init__(
        self,
        entity: type[E],
        message: type[M],
        *,
        nested: Mapping[Any, Plan[Any, Any]] | None = None,
        stored: bool = False,
        absent: frozenset[str] = frozenset(),
        computed: Mapping[str, Callable[[E], Any]] | None = None,
    ) -> None:
        self.entity, self.message = entity, message
        self._computed = dict(computed or {})
        self._nested = nested or {}
        hints = typing.get_type_hints(entity)
        descriptor = message.DESCRIPTOR
        self._steps: list[_Step] = []
        missing = set(descriptor.fields_by_name) - absent - set(self._computed)
        for declared in dataclasses.fields(typing.cast(Any, entity)):
            field = descriptor.fields_by_name.get(declared.name)
            if field is None:
                field = descriptor.fields_by_name.get(declared.name.removesuffix("_s"))
            if stored and (field is None or field.name not in missing):
                continue
            if field is None or field.name not in missing:
                raise TypeError(f"{entity.__name__}.{declared.name} has no partner in {message.__name__}")
            missing.discard(field.name)
            partner = typing.cast(FieldDescriptor, field)
            self._steps.append(self._step(declared.name, partner, hints[declared.name], _default(declared)))
        if missing:
            raise TypeError(f"{message.__name__} has fields that {entity.__name__} lacks: {sorted(missing)}")

    def encode(self, entity: E) -> M:
        """The message of an entity."""
        values: dict[str, Any] = {}
        for step in self._steps:
            value = getattr(entity, step.attribute)
            if value is not None and not (step.choice and not value):
                values[step.field] = step.encode(value) if step.encode else value
        for name, compute in self._computed.items():
            values[name] = compute(entity)
        return self.message(**values)

    def decode(self, message: M) -> E:
        """The entity of a message. Raises BadFields naming every field that has no meaning."""
        values: dict[str, Any] = {}
        bad: list[FieldViolation] = []
        missing = False
        for step in self._steps:
            try:
                value = None
                if step.present(message):
                    value = getattr(message, step.field)
                    if step.decode:
                        value = step.decode(value)
                if value is None and not step.optional and not step.has_default:
                    raise BadFields(FieldViolation(field="", description="is required"))
            except BadFields as error:
                bad += [within(step.field, violation) for violation in error.violations]
                value = error.rest
                if value is None and not (step.optional or step.has_default):
                    missing = True
                    continue
            if value is not None or not step.has_default:
                values[step.attribute] = value
        if bad:
            raise BadFields(*bad, rest=None if missing else self.entity(**values))
        return self.entity(**values)

    def _step(self, attribute: str, field: FieldDescriptor, hint: Any, has_default: bool) -> _Step:
        kind, optional = _without_none(hint)
        encode, decode = self._turns(field, kind)
        return _Step(
            attribute=attribute,
            field=field.name,
            encode=encode,
            decode=decode,
            present=_presence(field, optional, has_default and kind is not bool),
            optional=optional,
            has_default=has_default,
            choice=_is_choice(field) and not optional,
        )

    def _turns(self, field: FieldDescriptor, kind: Any) -> tuple[Turn | None, Turn | None]:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"].message_type
            return (values_of, texts_of) if inner is not None and inner.full_name == _VALUE else (dict, dict)
        if field.is_repeated:
            if origin is frozenset or origin is set:
                return sorted, frozenset
            return self._repeated(field, arguments[0])
        return self._single(field, kind)

    def _repeated(self, field: FieldDescriptor, kind: Any) -> tuple[Turn, Turn]:
        encode, decode = self._single(field, kind)

        def encode_all(values: Any) -> list[Any]:
            return [encode(value) for value in values] if encode else list(values)

        def decode_all(values: Any) -> tuple[Any, ...]:
            return decode_each(values, decode) if decode else tuple(values)

        return encode_all, decode_all

    def _single(self, field: FieldDescriptor, kind: Any) -> tuple[Turn | None, Turn | None]:
        if field.enum_type is not None:
            return enum_turns(kind, field.enum_type)
        if field.message_type is None:
            return None, None
        if field.message_type.full_name == "google.protobuf.Timestamp":
            return timestamp, instant
        if field.message_type.full_name == "google.protobuf.Duration":
            return duration, seconds
        if field.message_type.full_name == _VALUE:
            return value_of, text_of
        plan = self._nested[kind]
        return plan.encode, plan.decode


def decode_each(values: Any, decode: Turn) -> tuple[Any, ...]:
    """Decode the elements of a repeated field; bad ones are named by index."""
    decoded: list[Any] = []
    bad: list[FieldViolation] = []
    for index, value in enumerate(values):
        try:
            element = decode(value)
            if element is None:
                raise BadFields(FieldViolation(field="", description="is required"))
            decoded.append(element)
        except BadFields as error:
            bad += [within(f"[{index}]", violation) for violation in error.violations]
            if error.rest is not None:
                decoded.append(error.rest)
    if bad:
        raise BadFields(*bad, rest=tuple(decoded))
    return tuple(decoded)


def _default(declared: dataclasses.Field[Any]) -> bool:
    return declared.default is not dataclasses.MISSING or declared.default_factory is not dataclasses.MISSING


def _without_none(hint: Any) -> tuple[Any, bool]:
    """The type behind a NewType and an optional, and whether None is allowed."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [argument for argument in typing.get_args(hint) if argument is not types.NoneType]
        return _without_none(rest[0])[0], len(rest) < len(typing.get_args(hint))
    while hasattr(hint, "__supertype__"):
        hint = hint.__supertype__
    return hint, False


def _is_choice(field: FieldDescriptor) -> bool:
    """Whether the field is one of several; `optional` makes a oneof of its own, which is no choice."""
    return field.containing_oneof is not None and len(field.containing_oneof.fields) > 1


def _presence(field: FieldDescriptor, optional: bool, has_default: bool) -> Callable[[Message], bool]:
    """When a field counts as given; one without presence counts as absent at its zero, if absence means anything."""
    name = field.name
    if field.has_presence:
        return lambda message: message.HasField(name)
    if optional or (has_default and not field.is_repeated):
        return lambda message: bool(getattr(message, name))
    return lambda message: True
