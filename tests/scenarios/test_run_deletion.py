"""Runs are deleted with the real programs: across kills of the control plane, and while their runner still has one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import grpc
import pytest
from banksman.v1 import run_pb2, spec_pb2, task_pb2

from control_plane.storage.sqlite import DATABASE_NAME
from control_plane.storage.writes.purge import PURGED_TABLES
from tests.failpoints.house import PointedHouse
from tests.scenarios.house import House
from tests.scenarios.specs import spec
from tests.waiting import wait_for

TASK, RUNS = "short", 3


@pytest.fixture(scope="module")
def pointed() -> Iterator[PointedHouse]:
    with PointedHouse() as made:
        made.agent("r1")
        task(made, TASK, spec(["/bin/echo", "hello"]))
        yield made


def task(house: House, name: str, run_spec: spec_pb2.RunSpec) -> None:
    wanted = task_pb2.Task(name=name, spec=run_spec)
    house.doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=wanted))


def delete(house: House, name: str = TASK) -> int | None:
    """How many there were; None if the control plane died over it."""
    try:
        return house.doors.tasks.DeleteTaskRuns(task_pb2.DeleteTaskRunsRequest(task=name)).deleted_count
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return None


def run_task(house: House, name: str = TASK) -> run_pb2.Run:
    return house.doors.tasks.RunTask(task_pb2.RunTaskRequest(task=name))


def listed(house: House, name: str = TASK) -> set[str]:
    return {run.id for run in house.doors.runs.ListRuns(run_pb2.ListRunsRequest(task=name)).runs}


def left(house: House, runs: set[str]) -> list[str]:
    """What the state directory still holds of these runs, beside their tombstones."""
    found = []
    with sqlite3.connect(f"file:{house.server_directory / DATABASE_NAME}?mode=ro", uri=True) as raw:
        for table in PURGED_TABLES:
            deleted = " AND type <> 'DELETED'" if table.name == "run_events" else ""
            rows = raw.execute(f"SELECT run_id FROM {table.name} WHERE true{deleted}").fetchall()
            found += [f"{table.name}: {row[0]}" for row in rows if row[0] in runs]
        buried = {row[0] for row in raw.execute("SELECT id FROM runs WHERE purged_at IS NOT NULL")}
    raw.close()
    files = [path.name for run in runs for path in (house.server_directory / "logs").rglob(f"*{run}*")]
    return [*found, *files, *(f"not purged: {run}" for run in runs - buried)]


@pytest.mark.parametrize(
    "point", ["delete.before_commit", "delete.after_commit", "purge.before_commit", "purge.after_commit"]
)
def test_all_go_or_none_and_a_purge_goes_on_after_a_kill(pointed: PointedHouse, point: str) -> None:
    runs = {pointed.wait(run_task(pointed).id).id for _ in range(RUNS)}
    pointed.points.arm(f"server.{point}:kill")
    count = delete(pointed)
    pointed.points.wait(f"server.{point}")
    assert pointed.server.wait(15) == -9
    pointed.points.disarm()
    pointed.start_server()
    if point == "delete.before_commit":
        assert (count, listed(pointed)) == (None, runs)
        assert delete(pointed) == RUNS
    assert listed(pointed) == set()
    assert delete(pointed) == 0
    wait_for(lambda: not left(pointed, runs), what=f"nothing is left: {left(pointed, runs)}")
    assert {run.id for run in (run_task(pointed), run_task(pointed))} == listed(pointed), "it runs on"
    for run in listed(pointed):
        pointed.wait(run)
    assert delete(pointed) == 2


def test_a_host_that_still_has_a_deleted_run_ends_and_forgets_it(pointed: PointedHouse) -> None:
    agent, begun = pointed.agents["r1"], pointed.fifo("begun")
    text = f"echo $$ > {begun.path}; exec sleep 600"
    task(pointed, "long", spec(["/bin/sh", "-c", text]))
    run = run_task(pointed, "long").id
    pid = int(begun.receive())
    agent.kill_dash_nine()
    pointed.cancel(run, force=True)
    assert delete(pointed, "long") == 1
    wait_for(lambda: not left(pointed, {run}), what="nothing is left")
    agent.connect()
    state = pointed.root / "r0"

    def forgotten() -> bool:
        return not [path for part in ("runs", "workspaces") for path in (state / part).glob(f"*{run}*")]

    wait_for(forgotten, what=f"its host forgets it\n{pointed.said()}")
    assert not alive(pid)
    assert not left(pointed, {run})


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"600" in file.read()
    except OSError:
        return False


def test_runs_are_deleted_and_cancelled_by_the_command_line(shared: House) -> None:
    task(shared, "cli deletion", spec(["/bin/true"]))
    over = shared.wait(run_task(shared, "cli deletion").id).id
    waiting = [shared.submit(spec(["/bin/true"], labels={"os": "none"})).id for _ in range(2)]
    done = shared.cli("run", "delete", waiting[0], "--yes")
    assert (done.returncode != 0, b"cancel it first" in done.stderr) == (True, True)
    text = f'state = QUEUED AND created_at >= "{shared.get(waiting[0]).created_at.ToJsonString()}" AND trigger = MANUAL'
    unsure = shared.cli("run", "cancel", "--filter", text)
    assert (unsure.returncode != 0, b"--yes" in unsure.stderr) == (True, True)
    assert all(shared.get(run).is_active for run in waiting)
    sure = shared.cli("run", "cancel", "--filter", text, "--note", "many", "--yes")
    assert (sure.returncode, b"cancelled 2 of 2" in sure.stderr) == (0, True), sure
    assert {shared.get(run).cancel_note for run in waiting} == {"many"}
    assert shared.cli("run", "delete", over, *waiting, "--yes").returncode == 0
    assert shared.cli("task", "delete-runs", "cli deletion", "--yes").stderr.endswith(
        b"deleted 0 runs of task cli deletion\n"
    )
    for run in (over, *waiting):
        with pytest.raises(grpc.RpcError) as caught:
            shared.get(run)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
