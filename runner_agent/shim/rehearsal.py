"""A rehearsal of an attempt in memory: a shim that was forked ahead touches what it will need, before it is needed.

Python counts references inside its objects, so that the first use of anything in a forked process copies a page of
memory. Done ahead, these copies delay no start.
"""

from __future__ import annotations

from runner_agent.shim import attempt_files, codec, protocol
from runner_agent.shim.decisions import decide, sleep_s
from runner_agent.shim.digest import LogDigest
from runner_agent.shim.mask import Masker, NeedleSet
from runner_agent.shim.messages import AttemptStart, Exited, Spooled, StepStart, Usage
from runner_agent.shim.orders import Finish, Tell
from runner_agent.shim.states import (
    Begun,
    ChildForked,
    Event,
    Executed,
    IdentityStored,
    Instant,
    LeaderExited,
    PipesClosed,
    Ticked,
    TreeCleared,
    initial_state,
)
from runner_agent.shim.wire import event_to_frame

_PLAY: tuple[Event, ...] = (
    Begun(locked=True, tombstone=False, used=False),
    ChildForked(pid=2),
    IdentityStored(),
    Ticked(),
    Executed(),
    Ticked(),
    LeaderExited(exit_code=0, signal=None),
    PipesClosed(),
    TreeCleared(killed=0, empty=True),
)


def start_frame(masks: tuple[bytes, ...] = ()) -> bytes:
    """What an agent would send."""
    step = StepStart(argv=("program", "argument"), env={"NAME": "value"}, cwd="/")
    sent = AttemptStart(run_id="rehearsal", epoch=1, steps=(step,), cookie="rehearsal", masks=masks)
    return protocol.encode_frame("start", {"start": codec.to_json(sent)})


_PLAIN = start_frame()


def rehearse(sent: bytes = _PLAIN) -> None:
    """Go through the values of one small attempt; nothing is read, written or started."""
    frames = protocol.FrameBuffer()
    frames.feed(sent)
    frame = frames.next_frame()
    start = codec.from_json(AttemptStart, {} if frame is None else frame["start"])
    attempt_files.check_start(start)
    masker = Masker(NeedleSet(start.masks))
    masker.feed(b"some output\n")
    masker.finish()
    digest = LogDigest()
    digest.data(b"some output\n")
    state = initial_state(start)
    for event in _PLAY:
        state, ordered = decide(state, event, Instant(boottime_ns=1, wall_ns=1))
        sleep_s(state, 1)
        for order in ordered:
            if isinstance(order, Tell):
                event_to_frame(order.event)
            elif isinstance(order, Finish):
                record = attempt_files.exit_record(
                    order.verdict, start, offset=12, digest=digest.hex(), gaps=(), usage=Usage(source="none"),
                    result=None,
                )  # fmt: skip
                attempt_files.encode_record(record)
                event_to_frame(Exited(record=record))
    event_to_frame(Spooled(offset=12))
