"""Messages that come again are turned once, and only they."""

from __future__ import annotations

import dataclasses

import pytest
from banksman.v1 import spec_pb2

from control_plane.api.convert import SPEC
from control_plane.api.mapping import BadFields
from control_plane.api.remembering import KEPT, SMALL_BYTES
from tests.scenarios.specs import spec


def test_equal_messages_are_one_entity_and_one_entity_is_one_message() -> None:
    first, again = SPEC.decode(spec(["/bin/true"])), SPEC.decode(spec(["/bin/true"]))
    assert first is again
    assert SPEC.decode(spec(["/bin/false"])) != first
    assert SPEC.encode(first) is SPEC.encode(first)
    assert SPEC.encode(dataclasses.replace(first, slots=3)).slots == 3


def test_what_is_wrong_is_named_each_time() -> None:
    wrong = spec_pb2.RunSpec(steps=[spec_pb2.Step(kind=99)])  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(BadFields):
            SPEC.decode(wrong)


def test_large_ones_and_too_many_are_not_kept() -> None:
    large = spec(["/bin/echo", "x" * SMALL_BYTES])
    assert SPEC.decode(large) is not SPEC.decode(large)
    assert SPEC.decode(large) == SPEC.decode(large)
    entity = SPEC.decode(large)
    assert SPEC.encode(entity) is not SPEC.encode(entity)
    first = SPEC.decode(spec(["/bin/true"]))
    for number in range(KEPT + 1):
        SPEC.encode(SPEC.decode(spec(["/bin/echo", str(number)])))
    assert SPEC.decode(spec(["/bin/true"])) is not first
    assert SPEC.decode(spec(["/bin/true"])) == first
