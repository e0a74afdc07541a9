"""Two lanes: control before logs, bounded, and nothing after the end."""

from __future__ import annotations

import asyncio

import pytest

from runner_agent.domain.exit_report import ExitReport, Outcome
from runner_agent.domain.ids import AttemptKey, RunId
from runner_agent.domain.log_flow import LogTurn
from runner_agent.domain.messages import AttemptExited, DrainNotice, Heartbeat, HeldAttempt, HeldPhase
from runner_agent.domain.reason import Reason
from runner_agent.outbox import Outbox, OutboxFull, Parting, weight_bytes

KEY = AttemptKey(run_id=RunId("r"), lease_epoch=1)
NOTICE = DrainNotice(reason="x")


def outbox(**limits: int) -> Outbox:
    return Outbox(lambda: 0, **limits)


def big_exit(size: int) -> AttemptExited:
    return AttemptExited(
        key=KEY, exit=ExitReport(outcome=Outcome.ENDED_WELL, reason=Reason.EXIT_ZERO, result_data="x" * size)
    )


async def test_control_goes_before_logs() -> None:
    box = outbox()
    box.flow.open(KEY, offset=0, spooled=200_000)
    box.put(NOTICE)
    assert await box.take() == NOTICE
    turn = await box.take()
    assert isinstance(turn, LogTurn)
    box.sent(turn.key, offset=0, end_offset=turn.limit_bytes)
    waiting = asyncio.ensure_future(box.take())
    await asyncio.wait({waiting}, timeout=0)
    assert not waiting.done(), "no credit is left"
    box.put(NOTICE)
    assert await waiting == NOTICE


async def test_an_ack_wakes_the_writer() -> None:
    box = outbox()
    box.flow.open(KEY, offset=0, spooled=200_000)
    turn = await box.take()
    assert isinstance(turn, LogTurn)
    box.sent(KEY, offset=0, end_offset=turn.limit_bytes)
    waiting = asyncio.ensure_future(box.take())
    await asyncio.wait({waiting}, timeout=0)
    box.flow.acked(KEY, turn.limit_bytes, 0)
    box.wake()
    assert await waiting == LogTurn(key=KEY, offset=65_536, limit_bytes=65_536)


async def test_the_control_lane_is_bounded_in_bytes() -> None:
    box = outbox(control_limit_bytes=10_000)
    box.put(big_exit(5_000))
    with pytest.raises(OutboxFull):
        box.put(big_exit(5_000))
    await box.take()
    box.put(big_exit(5_000))


def test_the_weight_of_a_held_set_counts_its_exit_records() -> None:
    entry = HeldAttempt(key=KEY, phase=HeldPhase.EXITED, exit=big_exit(5_000).exit)
    beat = Heartbeat(seq=1, free_slots=1, load=0.0, disk_free_bytes=0, draining=False, held=(entry,) * 3)
    assert weight_bytes(beat) > 15_000
    assert weight_bytes(NOTICE) < 1_000


async def test_after_the_end_nothing_is_given_out_and_the_first_reason_stays() -> None:
    box = outbox()
    box.put(NOTICE)
    waiting_box = outbox()
    waiting = asyncio.ensure_future(waiting_box.take())
    await asyncio.wait({waiting}, timeout=0)
    waiting_box.close()
    assert await waiting is None
    box.close(Parting(reason="first"))
    box.close(Parting(reason="second"))
    assert await box.take() is None
    assert box.parting == Parting(reason="first")
