"""Random messages of any type, from its descriptor: for asking a server whatever a client might send."""

from __future__ import annotations

from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import strategies as st

# Names and ids of things that are there; whoever asks keeps the list.
KNOWN: list[str] = ["default"]
_TEXTS = st.one_of(
    st.integers(0, 999).map(lambda number: KNOWN[number % len(KNOWN)]),
    st.sampled_from(
        ["", "x", "default", "a task", "{{ a }}", "{{{{", "a/b", "\0", "é" * 300, "@last", "sh", "-c", "*"]
    ),
    st.sampled_from(
        ["tag : x", "name = *", "((", "NOT NOT", "* * * * *", "61 * * * *", "UTC", "http://x/", "1", "9" * 30]
    ),
    st.text(max_size=40),
)
_WHOLE = st.sampled_from([0, 1, -1, 2, 100, 101, 2**31 - 1, -(2**31)])
_LONG = st.one_of(_WHOLE, st.sampled_from([2**63 - 1, -(2**63)]))
_REAL = st.sampled_from([0.0, 1.0, -1.0, 1e308, -1e308, float("inf"), float("nan"), 1e-300])
_DEEPEST = 4
_PLAIN: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: _WHOLE,
    FieldDescriptor.CPPTYPE_INT64: _LONG,
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_DOUBLE: _REAL,
    FieldDescriptor.CPPTYPE_ENUM: st.sampled_from([0, 1, 2, 3, 7, 99]),
}


def messages(descriptor: Descriptor, depth: int = 0) -> st.SearchStrategy[Any]:
    """Messages of this type: any subset of the fields, each with a value that is likely to be trouble."""
    made = message_factory.GetMessageClass(descriptor)
    known = {}
    for field in descriptor.fields:
        strategy = _field(field, depth)
        if strategy is not None:
            known[field.name] = strategy

    def build(values: dict[str, Any]) -> Any:
        chosen: dict[str, str] = {}
        for name in values:
            oneof = descriptor.fields_by_name[name].containing_oneof
            chosen[name if oneof is None else oneof.name] = name
        return made(**{name: values[name] for name in chosen.values()})

    return st.fixed_dictionaries({}, optional=known).map(build)


def _field(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any] | None:
    if field.message_type is not None and depth >= _DEEPEST:
        return None
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value = _single(field.message_type.fields_by_name["value"], depth + 1)
        return st.dictionaries(_TEXTS, value, max_size=2)
    single = _single(field, depth)
    return st.lists(single, max_size=3) if field.is_repeated else single


def _single(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type, depth + 1)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=20)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return _TEXTS
    return _PLAIN[field.cpp_type]
