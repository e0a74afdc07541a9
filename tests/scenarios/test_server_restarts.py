"""The control plane goes away at a bad moment: what was pending is done, nothing twice, and everybody comes back."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib

from banksman.v1 import run_pb2

from tests.fakes.runner import ScriptedRunner, Stream, exit_record
from tests.scenarios.children import PATIENT, PAUSE, STUBBORN, lines, locked, python
from tests.scenarios.house import House
from tests.scenarios.specs import seconds, spec
from tests.waiting import wait_for

CROWD = 50


def test_a_restart_with_cancels_and_timeouts_pending_while_runs_end(house: House) -> None:
    agent = house.agent("r1", slots=8)
    tally, arrived, gate = house.root / "tally", house.fifo("arrived"), house.fifo("gate")
    argv = python(PAUSE, tally, arrived.path, gate.path)
    ending = [house.submit(spec(argv)).id for _ in range(2)]
    arrived.receive(), arrived.receive()
    locks = {name: house.root / name for name in ("cancelled", "timed-out", "late")}
    begun = house.fifo("begun")
    cancelled = house.submit(spec(python(STUBBORN, locks["cancelled"], begun.path), grace=seconds(2))).id
    timed_out = house.submit(spec(python(PATIENT, locks["timed-out"], begun.path), timeout=seconds(3))).id
    late = house.submit(spec(python(PATIENT, locks["late"], begun.path))).id
    for _ in range(4):  # the stubborn one says it twice
        begun.receive()
    waiting = house.submit(spec(["/bin/true"], labels={"os": "plan9"}, queue_timeout=seconds(1))).id
    house.cancel(cancelled)
    agent.kill_dash_nine()
    house.cancel(late)  # stored, and nobody there to be told
    house.server.kill_dash_nine()
    gate.send(2)
    wait_for(lambda: not locked(locks["timed-out"]), what="the shim stops the run that took too long")
    wait_for(lambda: not locked(locks["cancelled"]), what="the shim ends the cancelled run")
    house.start_server()
    agent.connect()
    assert [house.wait(run).state for run in ending] == [run_pb2.RUN_STATE_SUCCEEDED] * 2
    assert [(run.state, run.kill_confirmed) for run in map(house.wait, (cancelled, late))] == [
        (run_pb2.RUN_STATE_CANCELLED, True)
    ] * 2
    assert house.wait(timed_out).reason == run_pb2.REASON_RUN_TIMEOUT
    assert house.wait(waiting).reason == run_pb2.REASON_QUEUE_TIMEOUT
    assert not locked(locks["late"])
    assert len(lines(tally)) == 2


class Crowd:
    """Scripted runners, each on a connection of its own; they take what they are offered, and count it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.runners = [
            ScriptedRunner(house.admin.target, name=f"c{n}", state_directory_id=f"d{n}") for n in range(CROWD)
        ]
        self.assigned: list[tuple[str, int]] = []
        self.welcomed = 0

    async def enrol(self) -> None:
        for runner in self.runners:
            token = pathlib.Path(self.house.join_token()).read_text()
            await runner.enroll(token)

    async def live(self, runner: ScriptedRunner) -> None:
        """One session: Welcome, then every offer is taken, started and ended at once."""
        async with runner.stream() as stream:
            await stream.send(hello=runner.hello(slots=1))
            await stream.expect("welcome")
            self.welcomed += 1
            while True:
                await self._one(stream)

    async def _one(self, stream: Stream) -> None:
        assignment = await stream.accept()
        key = assignment.key
        self.assigned.append((key.run_id, key.lease_epoch))
        await stream.exited(key, exit_record())

    async def close(self) -> None:
        for runner in self.runners:
            await runner.close()


def test_a_crowd_comes_back_at_once_and_nobody_starves_or_gets_a_run_twice() -> None:
    with House(heartbeat_shortest_s=60) as house:  # none of them sends any
        asyncio.run(_crowd(house))


async def _crowd(house: House) -> None:
    crowd = Crowd(house)
    await crowd.enrol()
    runs = [house.submit(spec(["/bin/true", str(number)])).id for number in range(3 * CROWD)]
    await asyncio.to_thread(_restart, house)
    async with asyncio.TaskGroup() as group:
        lives = [group.create_task(_for_ever(crowd, runner), name=runner.name) for runner in crowd.runners]
        finished = await asyncio.to_thread(lambda: [house.wait(run, settled=False) for run in runs])
        for life in lives:
            life.cancel()
    await crowd.close()
    assert {run.state for run in finished} == {run_pb2.RUN_STATE_SUCCEEDED}
    assert crowd.welcomed == CROWD
    assert len(crowd.assigned) == len({run for run, _ in crowd.assigned}) == len(runs), "a run was assigned twice"
    assert {len(run.attempts) for run in finished} == {1}, "offers were lost or made twice"
    used = {run.attempts[0].runner_name for run in finished}
    assert len(used) > CROWD // 2
    assert "Traceback" not in house.server.said(1_000_000)


async def _for_ever(crowd: Crowd, runner: ScriptedRunner) -> None:
    with contextlib.suppress(TimeoutError):  # no more offers
        await crowd.live(runner)


def _restart(house: House) -> None:
    house.server.kill_dash_nine()
    house.start_server()
