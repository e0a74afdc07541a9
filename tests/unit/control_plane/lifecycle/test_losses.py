"""Marking a runner as lost, on a real database: bounded transactions, repeats, and a runner that comes back."""

from __future__ import annotations

import pytest

from control_plane.domain import limits
from control_plane.domain.errors import BanksmanError, ErrorCode
from control_plane.domain.ids import AttemptKey, Holder, RunnerId
from control_plane.domain.run import RunState
from control_plane.domain.session import HeldPhase
from control_plane.domain.spec import OnLost
from control_plane.lifecycle import losses, runners
from control_plane.storage import reads
from control_plane.storage.reads.server import withheld_runs
from tests.fakes.cases import exit_record, spec
from tests.fakes.world import World

ENDED = exit_record(ended_at=None)


async def away(world: World, holder: Holder) -> None:
    assert await runners.disconnect(world.house, holder.runner_id, None)


async def mark(world: World, holder: Holder, **order: bool | str) -> losses.Marked:
    wanted = losses.MarkLost(**order)  # type: ignore[arg-type]
    return await losses.mark_runner_lost(world.house, world.caller(), holder.runner_id, wanted)


async def test_every_attempt_is_given_up_in_bounded_transactions(world: World) -> None:
    holder = await world.runner("wide", slots=80)
    keys = [await world.running(await world.submit(), holder) for _ in range(70)]
    await away(world, holder)
    before = await world.writes_done()
    marked = await mark(world, holder, note="burned")
    assert sorted(marked.lost) == sorted(key.run_id for key in keys)
    assert (marked.queued, marked.cancelled) == ((), ())
    # Three that found something, and the one that found nothing more.
    assert await world.writes_done() - before <= 4
    assert (await world.stored(keys[0].run_id)).error_message == "An operator marked its runner as lost: burned."
    assert (await mark(world, holder)).lost == ()


async def test_it_tells_what_became_of_each_run(world: World) -> None:
    holder = await world.runner(slots=4)
    lost = await world.running(await world.submit(), holder)
    again = await world.running(await world.submit(spec(on_lost=OnLost.RETRY)), holder)
    offered = await world.offered(await world.submit(), holder)
    await away(world, holder)
    marked = await mark(world, holder, host_is_dead=True)
    assert marked.lost == (lost.run_id,)
    assert set(marked.queued) == {again.run_id, offered.run_id}
    assert world.house.clocks.lost_at_s(lost) is None
    history = await world.history(again.run_id)
    assert (history[-1].type, history[-1].reason, history[-1].actor) == ("WILL_RETRY", "MARKED_LOST", "ann")
    assert await world.house.database.read(lambda conn: reads.unsealed_of_runner(conn, holder.runner_id)) == tuple(
        sorted((lost, again), key=lambda key: key.run_id)
    )


async def test_a_dead_host_withholds_nothing_any_more(world: World, holder: Holder) -> None:
    other, run = await world.runner("r2"), await world.submit()
    unknown = AttemptKey(run_id=run.id, lease_epoch=1 << 50)
    await world.beat(holder, unknown, HeldPhase.RUNNING)
    assert "does not know" in (await world.place(other))[run.id]
    await away(world, holder)
    await mark(world, holder)
    assert "does not know" in (await world.place(other))[run.id], "a living host may have a process of it"
    with world.house.watch.subscribe("queue") as woken:
        await mark(world, holder, host_is_dead=True)
        assert woken.take()
    assert await world.house.database.read(withheld_runs) == {}
    assert await world.place(other) == {}
    assert (await world.stored(run.id)).state is RunState.ASSIGNED


async def test_a_connected_runner_is_refused_unless_forced_and_is_never_dead(world: World, holder: Holder) -> None:
    key = await world.running(await world.submit(), holder)
    for order in ({}, {"host_is_dead": True}, {"host_is_dead": True, "force": True}):
        with pytest.raises(BanksmanError) as refused:
            await mark(world, holder, **order)
        assert refused.value.code is ErrorCode.RUNNER_CONNECTED
        assert "banksman run" in refused.value.hint
    assert (await world.stored(key.run_id)).state == "RUNNING"
    assert (await mark(world, holder, force=True)).lost == (key.run_id,)
    assert (await world.beat(holder, key, HeldPhase.RUNNING)).kind == "FENCED"
    await world.exited(key, holder, ENDED)
    ended = await world.stored(key.run_id)
    assert (ended.state, ended.exit_code, ended.kill_confirmed) == ("LOST", 0, True)


async def test_what_cannot_be_meant_is_refused(world: World, holder: Holder) -> None:
    await away(world, holder)
    with pytest.raises(BanksmanError) as refused:
        await mark(world, holder, note="x" * (limits.CANCEL_NOTE_BYTES + 1))
    assert [each.field for each in refused.value.violations] == ["note"]
    assert (await mark(world, holder, note="x" * limits.CANCEL_NOTE_BYTES)).lost == ()
    with pytest.raises(BanksmanError) as unknown:
        await losses.mark_runner_lost(world.house, world.caller(), RunnerId("nobody"), losses.MarkLost())
    assert unknown.value.code is ErrorCode.RUNNER_NOT_FOUND
