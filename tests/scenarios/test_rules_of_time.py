"""What a wall clock that is set back may not do: an instant of a schedule fires once, whoever asks for it again."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from banksman.v1 import run_pb2, schedule_pb2, spec_pb2, task_pb2
from banksman.v1 import session_pb2 as pb
from google.protobuf.duration_pb2 import Duration

from control_plane.clock import SystemClock
from tests.fakes.server import Doors, Server, spec
from tests.waiting import wait_for_async


class SetClock(SystemClock):
    """The system's clock, for a host whose wall clock somebody sets."""

    behind_s = 0.0

    def now(self) -> datetime:
        return super().now() - timedelta(seconds=self.behind_s)


async def _instants(doors: Doors, task: str) -> list[int]:
    """The scheduled instants (ns) of the runs of a task, oldest first."""
    found = await doors.runs.ListRuns(run_pb2.ListRunsRequest(task=task, page_size=1000))
    return sorted(run.scheduled_time.ToNanoseconds() for run in found.runs)


async def _until(doors: Doors, task: str, after: int, count: int) -> list[int]:
    """All instants, once so many behind `after` have fired."""

    async def fired() -> list[int] | None:
        found = await _instants(doors, task)
        return found if sum(instant > after for instant in found) >= count else None

    return await wait_for_async(fired, what=f"{count} instants fire")


async def test_an_instant_that_comes_again_fires_no_second_time(tmp_path: Path) -> None:
    clock = SetClock()
    server = Server(tmp_path / "state", clock=clock)
    await server.start()
    try:
        doors = server.doors()
        task = task_pb2.Task(name="beat", spec=spec("true"))
        task = await doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=task))
        schedule = schedule_pb2.Schedule(name="beats", task_id=task.id, every=Duration(seconds=1))
        schedule.overlap = schedule_pb2.OVERLAP_POLICY_ALLOW
        await doors.schedules.CreateSchedule(schedule_pb2.CreateScheduleRequest(schedule=schedule))
        before = await _until(doors, task.id, 0, 2)
        clock.behind_s = 1.5
        await doors.schedules.PauseSchedule(schedule_pb2.PauseScheduleRequest(schedule="beats"))
        resumed = await doors.schedules.ResumeSchedule(schedule_pb2.ResumeScheduleRequest(schedule="beats"))
        assert resumed.next_fire_at.ToNanoseconds() <= before[-1], "the instant comes again"
        after = await _until(doors, task.id, before[-1], 1)
        assert len(after) == len(set(after)), "an instant fired twice"
    finally:
        await server.close()


class JumpingClock(SystemClock):
    """The system's clocks, for a server that stood still for a while without noticing."""

    slept_s = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.slept_s)

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.slept_s


async def _rings(doors: Doors, after_s: int) -> str:
    """A run that nobody can take; it expires at the first tick behind its time."""
    wanted = spec("true", queue_timeout=Duration(seconds=after_s))
    wanted.selectors.add(key="name", operator=spec_pb2.SELECTOR_OPERATOR_IN, values=["nobody"])
    made = await doors.runs.CreateRun(run_pb2.CreateRunRequest(spec=wanted))
    return str(made.id)


@pytest.mark.parametrize("ticked", [True, False], ids=["later", "before-its-first-tick"])
async def test_a_server_that_stood_still_gives_nobody_up(tmp_path: Path, ticked: bool) -> None:
    """Its runners could not be heard meanwhile; that it lives again is seen by a run whose queue timeout rings."""
    clock = JumpingClock()
    server = Server(tmp_path / "state", clock=clock)
    await server.start()
    try:
        doors, runner = server.doors(), await server.runner()
        loss = spec_pb2.LossPolicy(lost_after=Duration(seconds=30))
        run = await doors.runs.CreateRun(run_pb2.CreateRunRequest(spec=spec("true", loss=loss)))
        async with runner.session() as (stream, _):
            key = (await stream.accept()).key
            await stream.started(key)
            await doors.until(run.id, run_pb2.RUN_STATE_RUNNING)
            if ticked:
                await doors.until(await _rings(doors, 1), run_pb2.RUN_STATE_EXPIRED)
            waiting = await _rings(doors, 60)
            clock.slept_s = 600.0
            await doors.until(waiting, run_pb2.RUN_STATE_EXPIRED)
            assert (await doors.run(run.id)).state == run_pb2.RUN_STATE_RUNNING, "given up for the server's own pause"
            ack = await stream.heartbeat(1, pb.HeldAttempt(key=key, phase=pb.HELD_PHASE_RUNNING))
            assert [verdict.kind for verdict in ack.verdicts] == [pb.VERDICT_KIND_KEEP]
    finally:
        await server.close()
