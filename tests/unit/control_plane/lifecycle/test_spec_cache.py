"""A spec that was said before is frozen and judged once; what is wrong with one is found each time."""

from __future__ import annotations

import dataclasses

from control_plane.api.convert import ProtoSpecCodec
from control_plane.domain.spec import Command, RunSpec, Step
from control_plane.lifecycle.spec_cache import Kept, SpecCache

SPEC = RunSpec(steps=(Step(command=Command(argv=("/bin/true",))),))


def test_the_same_value_is_frozen_once_and_an_equal_one_to_the_same_identity() -> None:
    specs = SpecCache(ProtoSpecCodec())
    first = specs.freeze(SPEC)
    assert specs.freeze(SPEC) is first
    other = specs.freeze(dataclasses.replace(SPEC))
    assert other is not first
    assert other == first


def test_a_spec_that_is_wrong_is_wrong_again() -> None:
    specs = SpecCache(ProtoSpecCodec())
    wrong = dataclasses.replace(SPEC, priority=1_000_000)
    specs.freeze(wrong)
    found = specs.violations(wrong, 15.0)
    assert found
    assert specs.violations(wrong, 15.0) == found


def test_a_spec_is_judged_anew_under_another_lease() -> None:
    specs = SpecCache(ProtoSpecCodec())
    near = dataclasses.replace(SPEC, loss=dataclasses.replace(SPEC.loss, lost_after_s=60.0))
    specs.freeze(near)
    assert specs.violations(near, 15.0) == ()
    assert specs.violations(near, 15.0) == ()
    assert specs.violations(near, 600.0)
    assert specs.violations(near, 15.0) == ()


def test_what_is_kept_is_bounded_in_number_and_in_bytes() -> None:
    kept: Kept[str] = Kept(3, 100)
    for name in "abcd":
        kept.keep(name, name.upper(), 10)
    assert [kept.get(name) for name in "abcd"] == [None, "B", "C", "D"]
    kept.keep("b", "B", 10)
    kept.keep("e", "E", 85)
    assert [kept.get(name) for name in "bcde"] == [None, None, "D", "E"]
    kept.keep("f", "F", 101)
    assert [kept.get(name) for name in "def"] == [None, None, None]
    for name in "ghi":
        kept.keep(name, name.upper(), 33)
    assert [kept.get(name) for name in "ghi"] == ["G", "H", "I"]
