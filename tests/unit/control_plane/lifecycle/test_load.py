"""A run with its attempt, read in one row, is what both are when they are read apart."""

from __future__ import annotations

from control_plane.domain.ids import Holder, RunId
from control_plane.storage import reads
from tests.fakes.world import World


async def test_both_in_one_row_are_both_read_apart(world: World, holder: Holder) -> None:
    run = await world.submit()
    read = world.house.database.read

    assert await read(lambda conn: reads.run_with_attempt(conn, RunId("none"))) == (None, None)
    assert await read(lambda conn: reads.run_with_attempt(conn, run.id)) == (run, None)
    key = await world.running(run, holder)
    apart = await read(lambda conn: (reads.run_or_tombstone(conn, run.id), reads.attempt(conn, key)))
    assert apart[1] is not None
    assert await read(lambda conn: reads.run_with_attempt(conn, run.id)) == apart
    assert await read(lambda conn: reads.run_with_attempt(conn, run.id, key.lease_epoch)) == apart
    missing = await read(lambda conn: reads.run_with_attempt(conn, run.id, key.lease_epoch + 1))
    assert missing == (apart[0], None)
