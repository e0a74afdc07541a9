"""The outbox: control before logs, bounded in bytes."""

import asyncio

from control_plane.dispatch.outbox import Outbox


def outbox(limit_bytes: int = 100) -> Outbox[str]:
    return Outbox(limit_bytes=limit_bytes, weigh=len)


async def test_control_overtakes_logs_and_order_is_kept_within_a_lane():
    box = outbox()
    for message, log in (("l1", True), ("c1", False), ("l2", True), ("c2", False)):
        assert box.put(message, log=log)
    assert [await box.take() for _ in range(4)] == ["c1", "c2", "l1", "l2"]


async def test_it_holds_so_many_bytes_and_not_one_more():
    box = outbox(10)
    assert box.put("x" * 10)
    assert not box.put("y")
    assert box.waiting_bytes == 10
    assert await box.take() == "x" * 10
    assert box.put("y")


async def test_an_empty_outbox_takes_one_message_of_any_size():
    box = outbox(3)
    assert box.put("a large welcome")
    assert not box.put("x")
    assert await box.take() == "a large welcome"
    assert box.put("x")


async def test_a_taker_waits_for_what_comes():
    box = outbox()
    async with asyncio.TaskGroup() as group:
        taken = group.create_task(box.take())
        box.put("late")
    assert taken.result() == "late"


async def test_closing_lets_what_waits_go_out_then_ends():
    box = outbox()
    box.put("one")
    box.close()
    assert not box.put("two")
    assert await box.take() == "one"
    assert await box.take() is None


async def test_a_last_word_drops_the_rest_and_always_fits():
    box = outbox(3)
    box.put("one")
    box.close("goodbye")
    assert await box.take() == "goodbye"
    assert await box.take() is None


async def test_closing_wakes_a_taker():
    box = outbox()
    async with asyncio.TaskGroup() as group:
        taken = group.create_task(box.take())
        group.create_task(asyncio.to_thread(lambda: None))
        box.close()
    assert taken.result() is None
