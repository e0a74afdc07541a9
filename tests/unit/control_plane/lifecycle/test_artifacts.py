"""Waiting for artifacts: for a while, then not any longer; never does it hold up the end of a run."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from control_plane.domain import artifact as rules
from control_plane.domain.artifact import Announced, ArtifactLimits, ArtifactState
from control_plane.domain.history import RunEventType
from control_plane.domain.ids import AttemptKey, Holder
from control_plane.domain.run import RunState
from control_plane.domain.session import HeldPhase, Release, VerdictKind
from control_plane.domain.workspace import ArtifactPattern
from control_plane.lifecycle import artifacts, runners
from control_plane.storage import reads
from tests.fakes.cases import exit_record, spec
from tests.fakes.world import World

SHA = "a" * 64
FILE = Announced(name="a/b", size_bytes=3, sha256=SHA)
LIMITS = ArtifactLimits()


async def over(world: World, holder: Holder, *, sealed: bool = True) -> AttemptKey:
    run = await world.submit(replace(spec(), artifacts=(ArtifactPattern(path="*"),)))
    key = await world.running(run, holder)
    await world.exited(key, holder, exit_record())
    if sealed:
        await world.sealed(key)
    world.posted.clear()
    return key


async def whole(world: World, key: AttemptKey) -> list[str]:
    page = await world.house.database.read(lambda conn: reads.list_artifacts(conn, key.run_id, reads.PageRequest()))
    return [each.name for each in page.items]


async def test_nothing_comes_and_the_run_settles_all_the_same(world: World, holder: Holder) -> None:
    key = await over(world, holder)
    run = await world.stored(key.run_id)
    assert (run.state, run.settled_at) == (RunState.SUCCEEDED, None)
    await artifacts.begin(world.house, holder, key, FILE, LIMITS)
    world.clock.advance(rules.WAIT_S - 1)
    assert await artifacts.overdue(world.house) == ()
    world.clock.advance(1)
    (broken,) = await artifacts.overdue(world.house)
    assert broken.name == "a/b"
    assert (await world.stored(key.run_id)).settled_at == world.clock.now()
    assert [event.note for event in await world.history(key.run_id) if event.note] == [artifacts.NEVER_CAME]
    assert (holder.runner_id, Release(key=key)) in world.posted
    assert await artifacts.wanted(world.house, holder, key) == ()
    late = await artifacts.begin(world.house, holder, key, FILE, LIMITS)
    assert late.refused


async def test_a_host_that_is_away_may_come_back_with_them_for_a_day(world: World, holder: Holder) -> None:
    key = await over(world, holder)
    await runners.disconnect_all(world.house)
    for _ in range(23):
        world.clock.advance(rules.WAIT_S)
        assert await artifacts.overdue(world.house) == ()
    assert await artifacts.wanted(world.house, holder, key)
    world.clock.advance(2 * rules.WAIT_S)
    await artifacts.overdue(world.house)
    assert (await world.stored(key.run_id)).settled_at is not None


async def test_while_something_comes_it_is_waited_for_but_not_for_ever(world: World, holder: Holder) -> None:
    key = await over(world, holder)
    ended_at = (await world.attempt(key)).ended_at
    assert ended_at is not None
    for _ in range(30):
        world.clock.advance(rules.WAIT_S - 1)
        if await artifacts.overdue(world.house) or not await artifacts.wanted(world.house, holder, key):
            break
        await artifacts.extend(world.house, holder, key)
    settled_at = (await world.stored(key.run_id)).settled_at
    assert settled_at is not None
    assert timedelta(0) <= settled_at - ended_at - timedelta(seconds=rules.LONGEST_WAIT_S) <= timedelta(hours=2)


async def test_the_log_and_the_files_may_come_in_any_order(world: World, holder: Holder) -> None:
    key = await over(world, holder, sealed=False)
    found = await artifacts.begin(world.house, holder, key, FILE, LIMITS)
    assert found.artifact is not None
    assert await whole(world, key) == []
    await artifacts.complete(world.house, holder, key, found.artifact.id)
    assert await whole(world, key) == ["a/b"]
    await artifacts.finish(world.house, holder, key)
    assert (await world.stored(key.run_id)).settled_at is None
    assert not [message for _, message in world.posted if isinstance(message, Release)]
    await world.sealed(key)
    assert (await world.stored(key.run_id)).settled_at is not None
    verdict = await world.beat(holder, key, HeldPhase.EXITED, exit_record())
    assert verdict.kind is VerdictKind.RELEASE
    again = await artifacts.begin(world.house, holder, key, FILE, LIMITS)
    assert again.refused


async def test_it_is_remembered_over_a_restart(world: World, holder: Holder) -> None:
    key = await over(world, holder)
    first = await artifacts.begin(world.house, holder, key, FILE, LIMITS)
    await world.restart()
    assert [each.path for each in await artifacts.wanted(world.house, holder, key)] == ["*"]
    second = await artifacts.begin(world.house, holder, key, FILE, LIMITS)
    assert (first.artifact, second.replaced) == (second.artifact, ())
    other = await artifacts.begin(world.house, holder, key, replace(FILE, sha256="b" * 64), LIMITS)
    assert [each.sha256 for each in other.replaced] == [SHA]
    assert other.artifact is not None
    assert other.artifact.state is ArtifactState.UPLOADING
    await artifacts.finish(world.house, holder, key, ["one", "two"])
    await artifacts.finish(world.house, holder, key, ["again"])
    events = [event for event in await world.history(key.run_id) if event.type is RunEventType.EVIDENCE_ADDED]
    assert [event.note for event in events] == ["one; two"]


async def test_old_ones_go_and_those_of_pinned_runs_stay(world: World, holder: Holder) -> None:
    key = await over(world, holder)
    found = await artifacts.begin(world.house, holder, key, FILE, LIMITS)
    assert found.artifact is not None
    await artifacts.complete(world.house, holder, key, found.artifact.id)
    assert await artifacts.old(world.house, world.project_id, world.clock.now() + timedelta(days=1)) == (), (
        "not settled"
    )
    await artifacts.finish(world.house, holder, key)
    now = world.clock.now()
    assert await artifacts.old(world.house, world.project_id, now) == ()
    (old,) = await artifacts.old(world.house, world.project_id, now + timedelta(seconds=1))
    await artifacts.delete(world.house, [old])
    assert await whole(world, key) == []
