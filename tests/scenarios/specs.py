"""Short ways to write a spec down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from banksman.v1 import spec_pb2 as s
from google.protobuf.duration_pb2 import Duration


def command(argv: Sequence[str], **fields: Any) -> s.Step:
    """A MAIN step; fields are Command's."""
    return s.Step(kind=s.STEP_KIND_MAIN, command=s.Command(argv=argv, **fields))


def script(text: str, **fields: Any) -> s.Step:
    return s.Step(kind=s.STEP_KIND_MAIN, command=s.Command(script=text, **fields))


def spec(*steps: s.Step | Sequence[str], labels: Mapping[str, str] | None = None, **fields: Any) -> s.RunSpec:
    """A spec of these steps (or argvs) for runners with these labels; fields are RunSpec's."""
    made = [step if isinstance(step, s.Step) else command(step) for step in steps]
    selectors = [
        s.Selector(key=key, operator=s.SELECTOR_OPERATOR_IN, values=[value]) for key, value in (labels or {}).items()
    ]
    return s.RunSpec(steps=made, selectors=selectors, **fields)


def env(values: Mapping[str, str] | None = None, secrets: Iterable[tuple[str, str]] = ()) -> list[s.EnvVar]:
    """Plain values by name, and (name, secret) pairs."""
    plain = [s.EnvVar(name=name, value=value) for name, value in (values or {}).items()]
    return plain + [s.EnvVar(name=name, secret_ref=secret) for name, secret in secrets]


def seconds(value: float) -> Duration:
    made = Duration()
    made.FromMilliseconds(round(value * 1000))
    return made
