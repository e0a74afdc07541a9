"""Retention of each project: what is too old goes, what is pinned or not over stays, and logs go before their runs."""

from __future__ import annotations

import pytest

from control_plane.domain.errors import InvalidArgument
from control_plane.domain.ids import AttemptKey, ProjectId
from control_plane.domain.logs import LogSeal, LogSegment
from control_plane.domain.project import Retention
from control_plane.lifecycle import logs, projects, purges, retention, runs
from control_plane.lifecycle.projects import NewProject, ProjectChange
from control_plane.lifecycle.runs import CancelOrder, NewRun
from control_plane.storage import reads
from tests.unit.control_plane.lifecycle_crud.conftest import SPEC, Stage
from tests.unit.control_plane.lifecycle_crud.test_logs_and_housekeeping import connected, ended, look

DAY_S = 86_400.0
DEFAULT = Retention(runs_s=90 * DAY_S, logs_s=30 * DAY_S)


def seal(stored_bytes: int) -> LogSeal:
    segment = LogSegment(index=0, first_offset=0, end_offset=3, first_at=None, newlines=1, stored_bytes=stored_bytes)
    return LogSeal(bytes=3, digest="abc", complete=True, segments=(segment,))


async def logged(stage: Stage, holder, stored_bytes: int = 100) -> AttemptKey:
    key = await ended(stage, holder)
    await logs.seal_log(stage.house, key, seal(stored_bytes))
    stage.clock.advance(1)
    return key


async def over(stage: Stage, project_id: ProjectId):
    run = await runs.create(stage.house, stage.caller, NewRun(project_id=project_id, spec=SPEC))
    await runs.cancel(stage.house, stage.caller, run.id, CancelOrder())
    return run.id


async def hidden(stage: Stage) -> set[str]:
    return set(await purges.waiting(stage.house))


async def test_each_project_keeps_its_runs_as_long_as_it_says(stage: Stage) -> None:
    short = await projects.create(stage.house, stage.caller, NewProject(name="short", retention=Retention(runs_s=60.0)))
    in_short, in_default = await over(stage, short.id), await over(stage, stage.default.id)
    pinned = await over(stage, short.id)
    assert (await retention.pin(stage.house, stage.caller, pinned, pinned=True)).pinned
    active = await runs.create(stage.house, stage.caller, NewRun(project_id=short.id, spec=SPEC))
    stage.clock.advance(60)
    assert await retention.expire_runs(stage.house, DEFAULT) == 0
    stage.clock.advance(1)
    (found,) = await retention.look(stage.house, DEFAULT)
    assert (found.project, found.runs, found.logs) == ("short", 1, 0)
    with stage.house.watch.subscribe(purges.TOPIC) as wakeups:
        assert await retention.expire_runs(stage.house, DEFAULT) == 1
        assert await wakeups.wait(1)
    assert await hidden(stage) == {in_short}
    stage.clock.advance(91 * DAY_S)
    assert await retention.expire_runs(stage.house, DEFAULT) == 1
    assert await hidden(stage) == {in_short, in_default}
    await retention.pin(stage.house, stage.caller, pinned, pinned=False)
    assert await retention.expire_runs(stage.house, DEFAULT) == 1
    assert active.id not in await hidden(stage)


async def test_logs_go_by_age_and_pinned_ones_stay(stage: Stage) -> None:
    holder = await connected(stage)
    old, pinned = await logged(stage, holder), await logged(stage, holder)
    await retention.pin(stage.house, stage.caller, pinned.run_id, pinned=True)
    assert await retention.logs_to_go(stage.house, DEFAULT, 10) == ()
    stage.clock.advance(30 * DAY_S)
    young = await logged(stage, holder)
    assert await retention.logs_to_go(stage.house, DEFAULT, 10) == (old,)
    await logs.log_deleted(stage.house, old)
    _, attempt = await look(stage, old)
    assert attempt.log_deleted_at == stage.clock.now()
    assert (attempt.log_bytes, attempt.log_digest) == (3, "abc")
    assert await retention.logs_to_go(stage.house, DEFAULT, 10) == ()
    assert young != old


async def test_logs_go_by_size_the_oldest_first(stage: Stage) -> None:
    holder = await connected(stage)
    keys = [await logged(stage, holder, 100) for _ in range(4)]
    change = ProjectChange(retention=Retention(log_bytes=200))
    await projects.update(stage.house, stage.default.id, change)
    (found,) = await retention.look(stage.house, DEFAULT)
    assert (found.runs, found.logs, found.log_bytes, found.more) == (0, 2, 200, False)
    assert await retention.logs_to_go(stage.house, DEFAULT, 10) == tuple(keys[:2])
    assert await retention.logs_to_go(stage.house, DEFAULT, 1) == (keys[0],)
    change = ProjectChange(retention=Retention(log_bytes=400))
    await projects.update(stage.house, stage.default.id, change)
    assert await retention.look(stage.house, DEFAULT) == ()


@pytest.mark.parametrize(
    ("kept", "field"),
    [
        (Retention(runs_s=1.0, logs_s=3_650 * DAY_S, log_bytes=1 << 50), ""),
        (Retention(runs_s=0.5), "runs"),
        (Retention(logs_s=3_650 * DAY_S + 1), "logs"),
        (Retention(artifacts_s=0.0), "artifacts"),
        (Retention(log_bytes=-1), "log_bytes"),
        (Retention(log_bytes=(1 << 50) + 1), "log_bytes"),
    ],
)
async def test_bounds(stage: Stage, kept: Retention, field: str) -> None:
    new = NewProject(name="bounded", retention=kept)
    if not field:
        assert (await projects.create(stage.house, stage.caller, new)).retention == kept
        return
    with pytest.raises(InvalidArgument) as caught:
        await projects.create(stage.house, stage.caller, new)
    assert [each.field for each in caught.value.violations] == [f"project.retention.{field}"]
    assert await stage.house.database.read(lambda conn: reads.find_project(conn, "bounded")) is None
