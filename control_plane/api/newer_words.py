"""Words of a newer agent that this version has not learnt: enum values, replaced by what is safe to believe."""

from __future__ import annotations

from collections.abc import Iterator

from banksman.v1 import log_pb2, run_pb2, session_pb2, spec_pb2
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

# Where "not said" would make the message useless. Everything else becomes 0.
INSTEAD: dict[str, int] = {
    # Something that is not understood holds it: it is neither renewed nor started, and its entry is not overlooked.
    session_pb2.HeldPhase.DESCRIPTOR.full_name: session_pb2.HELD_PHASE_UNKNOWN_SHIM,
    # It is over, and only a proven empty tree lets the run be tried again.
    session_pb2.ExitOutcome.DESCRIPTOR.full_name: session_pb2.EXIT_OUTCOME_SHIM_DIED,
    # A sign of life, and nothing more.
    run_pb2.StopPhase.DESCRIPTOR.full_name: run_pb2.STOP_PHASE_RECEIVED,
    # Of all kinds only MAIN says that the attempt has started.
    spec_pb2.StepKind.DESCRIPTOR.full_name: spec_pb2.STEP_KIND_SETUP,
    # Its bytes are kept, and counted in the offsets.
    log_pb2.LogKind.DESCRIPTOR.full_name: log_pb2.LOG_KIND_SYSTEM,
}


def replace_newer(message: Message, path: str = "") -> list[str]:
    """Replace every unknown enum value in the message and those in it; returns where they were, with their values."""
    found = []
    for field, value in message.ListFields():
        where = f"{path}.{field.name}" if path else field.name
        if field.enum_type is not None:
            found += _replaced(message, field, field.enum_type, where)
        else:
            for inner, name in _messages(field, value, where):
                found += replace_newer(inner, name)
    return found


def _replaced(message: Message, field: FieldDescriptor, enum: EnumDescriptor, where: str) -> list[str]:
    value = getattr(message, field.name)
    if not field.is_repeated:
        if value in enum.values_by_number:
            return []
        setattr(message, field.name, INSTEAD.get(enum.full_name, 0))
        return [f"{where} = {value}"]
    unknown = [number for number in value if number not in enum.values_by_number]
    value[:] = [number for number in value if number not in unknown]
    return [f"{where} = {number}" for number in unknown]


def _messages(field: FieldDescriptor, value: object, where: str) -> Iterator[tuple[Message, str]]:
    """The messages in a field; maps hold none in what a runner says."""
    if isinstance(value, Message):
        yield value, where
    elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
        for index, element in enumerate(value):  # type: ignore[var-annotated, arg-type]
            yield element, f"{where}[{index}]"
