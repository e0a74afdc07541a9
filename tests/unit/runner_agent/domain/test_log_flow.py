"""Credit: what may be on its way, in whose turn, and what is sent again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner_agent.domain import backoff
from runner_agent.domain.log_flow import CEILING_BYTES, FLOOR_BYTES, LARGEST_CHUNK_BYTES, SECOND_NS, LogFlow

from .core import key

A, B = key("a"), key("b")
KIB = 1024


def flow_of(**spooled: int) -> LogFlow:
    flow = LogFlow()
    for run, size in spooled.items():
        flow.open(key(run), offset=0, spooled=size)
    return flow


def send_all(flow: LogFlow, now: int = 0) -> list[tuple[str, int, int]]:
    """Everything that may be sent now: (run, offset, bytes)."""
    turns = []
    while (turn := flow.next_turn(now)) is not None:
        flow.sent(turn.key, offset=turn.offset, end_offset=turn.offset + turn.limit_bytes)
        turns.append((turn.key.run_id, turn.offset, turn.limit_bytes))
    return turns


def test_without_acks_64_kib_are_on_their_way() -> None:
    flow = flow_of(a=10 << 20)
    assert send_all(flow) == [("a", 0, FLOOR_BYTES)]
    assert flow.on_the_way() == FLOOR_BYTES


def test_credit_is_what_was_acked_in_the_last_second() -> None:
    flow = flow_of(a=100 << 20)
    sent = 0
    for step in range(6):
        sent += sum(size for _, _, size in send_all(flow, step))
        flow.acked(A, sent, step)
    assert flow.limit_bytes(6) == sent
    assert flow.limit_bytes(6 + SECOND_NS) == FLOOR_BYTES


def test_it_never_grows_above_4_mib_nor_above_the_servers_window() -> None:
    flow = flow_of(a=100 << 20)
    flow.acked(A, 50 << 20, 0)
    assert flow.limit_bytes(1) == CEILING_BYTES
    flow.set_limits(window_bytes=100 * KIB, max_chunk_bytes=10 * KIB)
    assert flow.limit_bytes(1) == 100 * KIB
    assert {size for _, _, size in send_all(flow, 1)} == {10 * KIB}
    flow.set_limits(window_bytes=1 << 40, max_chunk_bytes=1 << 40)
    assert (flow.limit_bytes(1), flow.max_chunk_bytes) == (CEILING_BYTES, LARGEST_CHUNK_BYTES)
    flow.set_limits(window_bytes=0, max_chunk_bytes=0)
    assert (flow.limit_bytes(1), flow.max_chunk_bytes) == (CEILING_BYTES, FLOOR_BYTES)


def test_chunks_grow_with_the_credit_so_that_several_are_on_their_way() -> None:
    flow = flow_of(a=100 << 20)
    flow.set_limits(window_bytes=1 << 40, max_chunk_bytes=1 << 40)
    assert send_all(flow) == [("a", 0, FLOOR_BYTES)]
    flow.acked(A, FLOOR_BYTES, 0)
    for acked in (256 * KIB, 512 * KIB, 1 << 20, 4 << 20):
        flow.rewind(A, 0)
        flow.acked(A, acked - flow.limit_bytes(0), 0)
        assert flow.limit_bytes(0) == acked
        sizes = [size for _, _, size in send_all(flow, 0)]
        assert sizes[0] == min(LARGEST_CHUNK_BYTES, max(FLOOR_BYTES, acked // 4))
        assert len(sizes) >= 4
        flow.rewind(A, 0)


def test_a_runner_sends_no_larger_chunks_than_its_server_takes() -> None:
    flow = flow_of(a=100 << 20)
    flow.acked(A, 50 << 20, 0)
    flow.set_limits(window_bytes=4 << 20, max_chunk_bytes=64 * KIB)
    assert {size for _, _, size in send_all(flow, 1)} == {64 * KIB}


def test_attempts_take_turns() -> None:
    flow = flow_of(a=10 << 20, b=10 << 20)
    flow.acked(A, 1 << 20, 0)
    assert [run for run, _, _ in send_all(flow, 0)][:6] == ["a", "b", "a", "b", "a", "b"]


def test_a_short_log_does_not_wait_for_a_long_one() -> None:
    flow = flow_of(a=10 << 20)
    send_all(flow)
    flow.open(B, offset=0, spooled=100)
    assert flow.next_turn(0) is None, "the credit is used up"
    flow.acked(A, FLOOR_BYTES, 0)
    assert send_all(flow, 0) == [("a", FLOOR_BYTES, FLOOR_BYTES)]
    flow.acked(A, 2 * FLOOR_BYTES, 0)
    assert send_all(flow, 0)[0] == ("b", 0, 100), "at the latest after one chunk of the other"


def test_one_attempts_window_holds_back_that_attempt_alone() -> None:
    flow = flow_of(a=10 << 20, b=10 << 20)
    flow.acked(A, 1 << 20, 0, window_bytes=1 * KIB)
    runs = send_all(flow, 0)
    assert sum(size for run, _, size in runs if run == "a") == 1 * KIB
    assert sum(size for run, _, size in runs if run == "b") > 500 * KIB


def test_a_rewind_sends_again_from_there() -> None:
    flow = flow_of(a=1000)
    send_all(flow)
    flow.acked(A, 600, 0)
    flow.rewind(A, 200)
    assert send_all(flow) == [("a", 200, 800)]


def test_a_chunk_that_was_read_before_a_rewind_does_not_count() -> None:
    flow = flow_of(a=1000)
    turn = flow.next_turn(0)
    assert turn is not None
    flow.rewind(A, 500)
    flow.sent(A, offset=0, end_offset=1000)
    assert send_all(flow) == [("a", 500, 500)]


def test_no_progress_between_two_heartbeats_sends_again() -> None:
    flow = flow_of(a=1000)
    send_all(flow)
    flow.heard(A, 300, 0)
    assert send_all(flow) == []
    flow.heard(A, 400, 1)
    assert send_all(flow) == [], "it moves"
    flow.heard(A, 400, 2)
    flow.heard(A, 400, 3)
    assert send_all(flow) == [("a", 400, 600)]


def test_a_heartbeat_about_a_log_that_is_all_there_does_nothing() -> None:
    flow = flow_of(a=1000)
    send_all(flow)
    flow.acked(A, 1000, 0)
    for now in range(4):
        flow.heard(A, 0, now)
    assert send_all(flow) == []


def test_what_cannot_be_read_yet_waits_until_it_grows() -> None:
    flow = flow_of(a=1000)
    flow.skip(A)
    assert flow.next_turn(0) is None
    flow.grew(A, 1000)
    assert flow.next_turn(0) is not None


def test_a_closed_log_gives_its_credit_back() -> None:
    flow = flow_of(a=10 << 20, b=10 << 20)
    send_all(flow)
    flow.close(A)
    flow.close(B)
    assert flow.on_the_way() == 0
    flow.acked(A, 5, 0)
    flow.rewind(A, 5)
    flow.grew(A, 5)
    flow.skip(A)
    flow.heard(A, 5, 0)
    assert flow.next_turn(0) is None


moves = st.lists(
    st.tuples(st.sampled_from("gsarhkc"), st.sampled_from([A, B]), st.integers(0, 300_000), st.integers(0, 400_000_000))
)


@given(moves)
def test_never_more_than_the_limit_is_on_its_way_and_offsets_have_no_holes(
    steps: list[tuple[str, object, int, int]],
) -> None:
    flow = LogFlow()
    now = 0
    spooled = {A: 0, B: 0}
    sent = {A: 0, B: 0}
    for each in (A, B):
        flow.open(each, offset=0, spooled=0)
    for move, which, number, pause in steps:
        log = A if which == A else B
        now += pause
        if move == "g":
            spooled[log] += number
            flow.grew(log, spooled[log])
        elif move == "a":
            flow.acked(log, min(number, sent[log]), now)
        elif move == "h":
            flow.heard(log, min(number, sent[log]), now)
        elif move == "r":
            sent[log] = min(number, sent[log])
            flow.rewind(log, sent[log])
        elif move in "sk":
            turn = flow.next_turn(now)
            if turn is None:
                continue
            assert turn.offset <= sent[turn.key], "no hole"
            assert 0 < turn.limit_bytes <= LARGEST_CHUNK_BYTES
            assert turn.offset + turn.limit_bytes <= spooled[turn.key]
            room = flow.limit_bytes(now) - flow.on_the_way()
            assert turn.limit_bytes <= room
            sent[turn.key] = turn.offset + turn.limit_bytes
            flow.sent(turn.key, offset=turn.offset, end_offset=sent[turn.key])
        assert flow.on_the_way() >= 0


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_back_off_is_full_jitter_up_to_20_s_for_ever(failures: int, fraction: float) -> None:
    delay = backoff.delay_s(failures, fraction)
    assert 0 <= delay <= min(20.0, 0.5 * 2.0 ** min(failures, 30))
