"""Small conversions that both directions share: durations, instants, enums, text."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

_SECOND_NS = 1_000_000_000
E = TypeVar("E", bound=StrEnum)


def seconds(value: Duration) -> float:
    """A duration in seconds."""
    return value.seconds + value.nanos / _SECOND_NS


def duration(value_s: float) -> Duration:
    """Seconds as a duration."""
    whole = int(value_s)
    return Duration(seconds=whole, nanos=int((value_s - whole) * _SECOND_NS))


def timestamp(wall_ns: int | None) -> Timestamp | None:
    """Wall-clock nanoseconds as an instant; None stays absent."""
    if wall_ns is None:
        return None
    return Timestamp(seconds=wall_ns // _SECOND_NS, nanos=wall_ns % _SECOND_NS)


def enum_from(number: int, proto: object, prefix: str, members: type[E], fallback: E) -> E:
    """The member that a number of the wire stands for; `fallback` for a number that this build does not know."""
    try:
        return members(proto.Name(number).removeprefix(prefix))  # type: ignore[attr-defined]
    except ValueError:
        return fallback


def text(value: str) -> str:
    """Text that protobuf takes: lone surrogates (undecodable bytes of the host) become question marks."""
    return value.encode("utf-8", "replace").decode("utf-8")
