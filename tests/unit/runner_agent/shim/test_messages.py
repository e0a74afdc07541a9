"""JSON, frames and lines: what is sent arrives, what is malformed is refused."""

from __future__ import annotations

import struct

import pytest

from runner_agent.shim import codec, protocol
from runner_agent.shim.attempt_files import check_start, parse_stop
from runner_agent.shim.codec import BadMessage
from runner_agent.shim.mask import NeedleSet
from runner_agent.shim.messages import (
    AttemptStart,
    Exited,
    ExitRecord,
    Outcome,
    Phase,
    Progress,
    Reason,
    Result,
    Spooled,
    Started,
    StepEnded,
    StepRecord,
    StepStart,
    StopMark,
    StopPhase,
)
from runner_agent.shim.results import MAX_RESULT_BYTES, Words
from runner_agent.shim.run_socket import RunVerbs, perform
from runner_agent.shim.wire import event_from_frame, event_to_frame

START = AttemptStart(
    run_id="r", epoch=1 << 60, cookie="cookie-value", masks=(b"\xff\0secret",), merge_output=True, run_timeout_s=1.5,
    steps=(StepStart(argv=("a", "b\udcff"), env={"TOKEN": "env-secret"}, cwd="/", stdin=b"stdin-secret\0", always=True,
                     success_exit_codes=frozenset({0, 3}), rlimits=(("NOFILE", 10, 20),)),),
)  # fmt: skip
RECORD = ExitRecord(
    run_id="r", epoch=2, outcome=Outcome.ENDED_BADLY, reason=Reason.SIGNALLED, signal=9, gaps=((1, 2), (3, 4)),
    steps=(StepRecord(index=0, signal=9),), stop_marks=(StopMark(phase=Phase.KILLED, at_ns=5, survivors=2),),
    stopped_by=Reason.USER_CANCEL, digest="ab", result_json="{}",
)  # fmt: skip


def _through_a_frame(value: codec.JsonObject) -> codec.JsonObject:
    frames = protocol.FrameBuffer()
    for byte in protocol.encode_frame("x", value):
        assert frames.next_frame() is None
        frames.feed(bytes([byte]))
    frame = frames.next_frame()
    assert frame is not None
    return frame


def test_a_start_arrives_as_it_was_sent() -> None:
    assert codec.from_json(AttemptStart, _through_a_frame({"start": codec.to_json(START)})["start"]) == START


@pytest.mark.parametrize(
    "event",
    [
        Started(step=1, pid=2, at_ns=3), StepEnded(record=StepRecord(index=0)), Spooled(offset=9),
        StopPhase(phase=Phase.KILLED, survivors=1, at_ns=2), Result(json="[]"),
        Progress(fraction=None, text="é", stage="s", at_ns=7),
        Exited(record=RECORD),
    ],
)  # fmt: skip
def test_every_event_arrives_as_it_was_sent(event: Started) -> None:
    frames = protocol.FrameBuffer()
    frames.feed(event_to_frame(event))
    frame = frames.next_frame()
    assert frame is not None
    assert event_from_frame(frame) == event


def test_what_a_newer_version_adds_is_skipped_and_what_an_older_one_lacks_has_a_default() -> None:
    assert codec.from_json(StepRecord, {"index": 1, "of_tomorrow": True}) == StepRecord(index=1)
    assert event_from_frame({"type": "of_tomorrow"}) is None


@pytest.mark.parametrize(
    "value",
    [
        None, [], {}, {"index": "1"}, {"index": True}, {"index": 1, "kind": "JOB"}, {"index": 1, "spawn_message": 3},
    ],
)  # fmt: skip
def test_a_wrong_shape_is_refused(value: object) -> None:
    with pytest.raises(BadMessage):
        codec.from_json(StepRecord, value)


@pytest.mark.parametrize("payload", [b"{", b"[]", b'{"type": 1}', b"\xff", b"[" * 100_000])
def test_a_frame_that_is_no_message_is_refused(payload: bytes) -> None:
    frames = protocol.FrameBuffer()
    frames.feed(struct.pack("<I", len(payload)) + payload)
    with pytest.raises(BadMessage):
        frames.next_frame()


def test_a_frame_above_the_limit_is_refused_by_its_head() -> None:
    frames = protocol.FrameBuffer(limit_bytes=100)
    frames.feed(struct.pack("<I", 101))
    with pytest.raises(BadMessage, match="limit"):
        frames.next_frame()


@pytest.mark.parametrize(
    ("newest", "oldest", "meets"),
    [(1, 1, True), (2, 1, True), (2, 2, False), (0, 0, False), (None, 1, False), ("1", 1, False)],
)
def test_versions_meet_or_do_not(newest: object, oldest: object, meets: bool) -> None:
    assert protocol.speaks_with({"version": newest, "oldest": oldest}) is meets


def test_nothing_secret_shows_in_a_repr() -> None:
    assert "secret" not in repr(START)
    assert "cookie-value" not in repr(START)


@pytest.mark.parametrize(
    "changes",
    [
        {"reason": "WHY_NOT"}, {"reason": None}, {"signal": 0}, {"signal": 65}, {"signal": "TERM"}, {"grace_s": -1},
        {"grace_s": True}, {"grace_s": 1e9},
    ],
)  # fmt: skip
def test_a_malformed_stop_is_refused(changes: codec.JsonObject) -> None:
    with pytest.raises(BadMessage):
        parse_stop({"type": "stop", "reason": "USER_CANCEL", "signal": 15, "grace_s": 1, **changes})


def test_starts_that_the_shim_cannot_run_are_refused() -> None:
    good = StepStart(argv=("true",), env={}, cwd="/")
    bad = StepStart(argv=(), env={}, cwd="/")
    check_start(AttemptStart(run_id="r", epoch=1, steps=(good,) * 16, cookie="c"))
    for steps, cookie in (((), "c"), ((good,) * 17, "c"), ((bad,), "c"), ((good,), "")):
        with pytest.raises(BadMessage):
            check_start(AttemptStart(run_id="r", epoch=1, steps=steps, cookie=cookie))


class Told:
    """What a line led to."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.verbs = RunVerbs(add_mask=self._mask, progress=self._progress, result=self.calls.append)

    def _mask(self, value: bytes) -> bool:
        self.calls.append(value)
        return len(value) >= 8

    def _progress(self, fraction: float | None, stage: str, note: str) -> None:
        self.calls.append((fraction, stage, note))


@pytest.mark.parametrize(
    ("line", "call"),
    [
        (b'{"type": "add_mask", "value": "12345678"}', b"12345678"),
        (b'{"type": "add_mask", "value_base64": "/wABAgMEBQY="}', b"\xff\0\1\2\3\4\5\6"),
        (b'{"type": "progress", "fraction": 1}', (1.0, "", "")),
        (b'{"type": "progress", "text": "half"}', (None, "", "half")),
        (b'{"type": "progress", "percent": 40, "stage": "compiling"}', (0.4, "compiling", "")),
        (b'{"type": "progress", "percent": 100, "note": "done"}', (1.0, "", "done")),
        (b'{"type": "progress", "percent": 0}', (0.0, "", "")),
        (b'{"type": "result", "value": {"a": [null]}}', '{"a":[null]}'),
        (b'{"type": "result"}', "null"),
    ],
)
def test_a_run_may_say(line: bytes, call: object) -> None:
    told = Told()
    perform(line, told.verbs)
    assert told.calls == [call]


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{", b"[]", b'"stop"', b'{"type": "stop"}', b'{"type": "add_mask"}',
        b'{"type": "add_mask", "value": "1"}',
        b'{"type": "add_mask", "value_base64": "?"}', b'{"type": "progress", "fraction": 2}',
        b'{"type": "progress", "fraction": true}', b'{"type": "progress", "text": 1}',
        b'{"type": "progress"}', b'{"type": "progress", "percent": 100.1}', b'{"type": "progress", "percent": -1}',
        b'{"type": "progress", "percent": "40"}', b'{"type": "progress", "percent": 1, "stage": 2}',
        b'{"type": "result", "value": "%s"}' % (b"x" * (MAX_RESULT_BYTES - 1)),
    ],
)  # fmt: skip
def test_a_run_may_not_say(line: bytes) -> None:
    with pytest.raises(BadMessage):
        perform(line, Told().verbs)


def test_a_result_of_the_greatest_size_is_taken() -> None:
    told = Told()
    perform(b'{"type": "result", "value": "%s"}' % (b"x" * (MAX_RESULT_BYTES - 2)), told.verbs)
    assert len(told.calls) == 1


def test_a_result_that_masking_broke_is_refused() -> None:
    with pytest.raises(BadMessage, match="secret"):
        Words(NeedleSet([b"secretive"])).take('{"a": secretive}')
