"""Events of a shim as frames, and back."""

from __future__ import annotations

from runner_agent.shim import codec
from runner_agent.shim.messages import (
    Exited,
    Progress,
    Result,
    ShimEvent,
    Spooled,
    Started,
    StepEnded,
    StopPhase,
)
from runner_agent.shim.protocol import encode_frame

_KINDS: dict[str, type[Started | StepEnded | StopPhase | Spooled | Progress | Result | Exited]] = {
    "started": Started,
    "step_ended": StepEnded,
    "stop_phase": StopPhase,
    "spooled": Spooled,
    "progress": Progress,
    "result": Result,
    "exited": Exited,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def event_to_frame(event: Started | StepEnded | StopPhase | Spooled | Progress | Result | Exited) -> bytes:
    """The frame that tells `event`."""
    body = codec.to_json(event)
    assert isinstance(body, dict)
    return encode_frame(_NAMES[type(event)], body)


def event_from_frame(frame: codec.JsonObject) -> ShimEvent | None:
    """The event in a frame; None for a kind that this version does not know. Raises BadMessage."""
    kind = _KINDS.get(str(frame["type"]))
    return None if kind is None else codec.from_json(kind, frame)
