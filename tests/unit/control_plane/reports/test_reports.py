"""Reports: made once everything is in, with the artifacts in every format; none can keep a run from settling."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from control_plane.domain.artifact import Announced, ArtifactLimits
from control_plane.domain.ids import AttemptKey, Holder, RunId
from control_plane.domain.report import LogExcerpt, Rendered, RunFacts
from control_plane.domain.run import Run
from control_plane.domain.task import ReportFormat, ReportSettings
from control_plane.domain.workspace import ArtifactPattern
from control_plane.lifecycle import artifacts, losses, reporting
from control_plane.lifecycle.house import House
from control_plane.reports import reporter as reporter_module
from control_plane.reports.renderer import rendered
from control_plane.reports.reporter import ReadLog, Reporter
from control_plane.storage import reads
from tests.fakes.cases import exit_record, spec
from tests.fakes.world import World
from tests.waiting import wait_for_async

SHA = "ab" * 32
FILE = Announced(name="out/a|<b>.txt", size_bytes=1_234, sha256=SHA)
LEAVES = replace(spec(), artifacts=(ArtifactPattern(path="*"),))
FORMATS = (ReportFormat.JSON, ReportFormat.MARKDOWN, ReportFormat.HTML, ReportFormat.PDF)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path / "state")
    await made.settle_in()
    yield made
    await made.house.database.close()


@pytest.fixture
async def holder(world: World) -> Holder:
    return await world.runner()


async def over(world: World, holder: Holder) -> AttemptKey:
    """A run with reports has ended and its log is sealed; its artifacts are still to come."""
    name = f"build {world.clock.new_id()}"
    task = await world.task(LEAVES, name=name, report=ReportSettings(enabled=True, formats=FORMATS))
    key = await world.running(await world.run_task(task), holder)
    await world.exited(key, holder, exit_record())
    await world.sealed(key)
    return key


async def upload(world: World, holder: Holder, key: AttemptKey) -> None:
    begun = await artifacts.begin(world.house, holder, key, FILE, ArtifactLimits())
    assert begun.artifact is not None
    await artifacts.complete(world.house, holder, key, begun.artifact.id)


async def facts(world: World, key: AttemptKey) -> RunFacts:
    found = await reporting.facts(world.house, key.run_id)
    assert found is not None
    return found


async def bodies(world: World, holder: Holder) -> dict[ReportFormat, bytes]:
    key = await over(world, holder)
    await upload(world, holder, key)
    await artifacts.finish(world.house, holder, key)
    told = await facts(world, key)
    made = rendered(told, {key: LogExcerpt(head=b"said")}, FORMATS)
    assert [each.error for each in made] == [""] * len(FORMATS)
    return {each.format: each.body for each in made}


async def test_every_format_names_the_artifacts(world: World, holder: Holder) -> None:
    made = await bodies(world, holder)
    document = json.loads(made[ReportFormat.JSON])
    stored = {"attempt": 1, "name": FILE.name, "size_bytes": 1_234, "sha256": SHA, "state": "COMPLETE"}
    assert (document["artifacts"], document["artifacts_left_out"]) == ([stored], 0)
    markdown = made[ReportFormat.MARKDOWN].decode()
    assert f"| `out/a\\|<b>.txt` | 1234 | `{SHA}` | COMPLETE | 1 |\n\n## Events" in re.sub("\n{3,}", "\n\n", markdown)
    page = made[ReportFormat.HTML].decode()
    assert f"<tr><td>out/a|&lt;b&gt;.txt</td><td>1234</td><td>{SHA}</td><td>COMPLETE</td><td>1</td></tr>" in page
    drawn = printed(made[ReportFormat.PDF])
    assert "out/a|<b>.txt: 1234 bytes, COMPLETE, attempt 1" in drawn
    assert SHA in drawn


def printed(pdf: bytes) -> str:
    """What its pages say."""
    streams = re.findall(rb"stream\n(.*?)\nendstream", pdf, re.DOTALL)
    return "\n".join(zlib.decompress(each).decode("latin-1") for each in streams)


async def test_it_is_made_once_the_artifacts_are_in(world: World, holder: Holder) -> None:
    key = await over(world, holder)
    assert await reporting.due(world.house) == ()
    await upload(world, holder, key)
    assert await reporting.due(world.house) == ()
    await artifacts.finish(world.house, holder, key)
    assert await reporting.due(world.house) == (key.run_id,)
    assert (await world.stored(key.run_id)).settled_at is None


async def test_or_once_they_are_given_up(world: World, holder: Holder) -> None:
    key = await over(world, holder)
    await artifacts.begin(world.house, holder, key, FILE, ArtifactLimits())
    world.clock.advance(2 * 86_400)
    await artifacts.overdue(world.house)
    assert await reporting.due(world.house) == (key.run_id,)
    assert (await facts(world, key)).artifacts == ()


async def test_artifacts_of_a_late_exit_put_it_off_even_while_it_is_made(world: World, holder: Holder) -> None:
    task = await world.task(LEAVES, report=ReportSettings(enabled=True, formats=FORMATS))
    key = await world.running(await world.run_task(task), holder)
    await losses.mark_runner_lost(world.house, world.caller(), holder.runner_id, losses.MarkLost(force=True))
    await world.sealed(key)
    early = await facts(world, key)
    assert await reporting.due(world.house) == (key.run_id,)
    await world.exited(key, holder, exit_record())
    assert await reporting.due(world.house) == ()
    made = [Rendered(format=each, body=b"early") for each in FORMATS]
    await reporting.made(world.house, early.run, made)
    world.clock.advance(1)
    await upload(world, holder, key)
    await artifacts.finish(world.house, holder, key)
    await reporting.made(world.house, early.run, made)
    assert await stored(world, key.run_id) == ()
    told = await facts(world, key)
    assert [each.name for each in told.artifacts] == [FILE.name]
    await reporting.made(world.house, told.run, made)
    assert await stored(world, key.run_id) == FORMATS
    assert (await world.stored(key.run_id)).settled_at is not None


async def stored(world: World, run_id: RunId) -> tuple[ReportFormat, ...]:
    found = await world.house.database.read(lambda conn: reads.reports_of_run(conn, run_id))
    return tuple(each.format for each in found)


@asynccontextmanager
async def reporter(world: World, read_log: ReadLog, longest_s: float = 60.0) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        going = group.create_task(Reporter(world.house, read_log, longest_s).run(), name="reporter")
        try:
            yield
        finally:
            going.cancel()


async def settled(world: World, key: AttemptKey) -> Run:
    async def body() -> Run | None:
        found = await world.stored(key.run_id)
        return found if found.settled_at is not None else None

    return await wait_for_async(body, what="the run is settled")


async def notes(world: World, key: AttemptKey) -> list[str]:
    return [each.note for each in await world.history(key.run_id) if "could not be made" in each.note]


@pytest.mark.parametrize("error", [ValueError("the log is damaged"), RuntimeError("a mistake")])
async def test_one_that_fails_is_an_event_and_the_run_settles(world: World, holder: Holder, error: Exception) -> None:
    def broken(key: AttemptKey, head: int, tail: int) -> LogExcerpt:
        raise error

    key = await over(world, holder)
    await artifacts.finish(world.house, holder, key)
    async with reporter(world, broken):
        await settled(world, key)
    assert await stored(world, key.run_id) == ()
    why = f"an internal error ({type(error).__name__})"
    assert await notes(world, key) == [f"The report as {each} could not be made: {why}" for each in FORMATS]


async def test_one_that_takes_too_long_is_given_up(world: World, holder: Holder) -> None:
    release, stuck = threading.Event(), await over(world, holder)

    def slow(key: AttemptKey, head: int, tail: int) -> LogExcerpt:
        release.wait()
        return LogExcerpt(head=b"said")

    await artifacts.finish(world.house, holder, stuck)
    try:
        async with reporter(world, slow, longest_s=0.2):
            await settled(world, stuck)
    finally:
        release.set()
    assert await stored(world, stuck.run_id) == ()
    assert await notes(world, stuck) == [
        f"The report as {each} could not be made: it took longer than 0.2 s" for each in FORMATS
    ]


def nothing(key: AttemptKey, head: int, tail: int) -> LogExcerpt:
    return LogExcerpt(head=b"")


async def test_one_that_cannot_be_told_of_keeps_nobody_else_waiting(
    world: World, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, stuck, other = reporting.facts, await over(world, holder), await over(world, holder)
    for key in (stuck, other):
        await artifacts.finish(world.house, holder, key)
    tries = 0

    async def failing(house: House, run_id: RunId) -> RunFacts | None:
        nonlocal tries
        if run_id == stuck.run_id and (tries := tries + 1) < 2:
            raise LookupError("no spec")
        return await real(house, run_id)

    monkeypatch.setattr(reporting, "facts", failing)
    async with reporter(world, nothing):
        await settled(world, other)
        assert (await world.stored(stuck.run_id)).settled_at is None
        world.house.watch.notify(reporting.TOPIC)
        await settled(world, await later(world, holder))
        assert tries == 1, "a wake-up is no reason to try it again"
        world.clock.advance(61)
        world.house.watch.notify(reporting.TOPIC)
        await settled(world, stuck)


async def later(world: World, holder: Holder) -> AttemptKey:
    key = await over(world, holder)
    await artifacts.finish(world.house, holder, key)
    return key


async def test_a_round_that_fails_is_not_the_last_one(
    world: World, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, rounds = reporting.due, 0
    key = await later(world, holder)

    async def failing(house: House, besides: frozenset[RunId] = frozenset()) -> tuple[RunId, ...]:
        nonlocal rounds
        rounds += 1
        if rounds <= 2:
            raise LookupError("a mistake")
        return await real(house, besides)

    monkeypatch.setattr(reporting, "due", failing)
    monkeypatch.setattr(reporter_module, "TRY_AGAIN_S", 0.01)
    async with reporter(world, nothing):
        await settled(world, key)
