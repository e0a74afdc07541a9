"""The control plane's disk: full, busy, read-only, damaged. Nothing is acknowledged that is not stored."""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import sqlite3
import sys
import threading

import grpc
import pytest
from banksman.v1 import run_pb2, task_pb2

from control_plane.clock import SystemClock
from control_plane.storage.database import CannotOpen, Database
from tests.scenarios import cramped
from tests.scenarios.house import House
from tests.scenarios.links import Flood, epoch_of, last
from tests.scenarios.program import Program
from tests.scenarios.specs import spec
from tests.waiting import wait_for

TRUE = ("/bin/true",)


def big() -> list[str]:
    """A command that no database has room for in the pages that it has: each one is another spec."""
    return ["/bin/true", os.urandom(40_000).hex()]


def fill(house: House) -> None:
    """Until there is no room."""
    for _ in range(50):
        house.submit(spec(big()))


def test_a_full_disk_acknowledges_nothing_and_heals_by_itself(house: House) -> None:
    full = house.root / "full"
    house.server.stop()
    house.server.argv[1:3] = [cramped.__file__, str(full)]
    house.start_server()
    agent = house.agent("r1")
    run = Flood(house, 100_000, more=500_000)
    run.pid()
    epoch, server_pid = epoch_of(agent), house.server.pid
    full.touch()
    run.gate.send()
    with pytest.raises(grpc.RpcError) as refused:
        fill(house)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "disk is full" in str(refused.value.details())
    house.doors.tasks.ListTasks(task_pb2.ListTasksRequest())
    wait_for(lambda: "nothing is acknowledged" in house.server.said(100_000), what="the log is not taken in either")
    assert run.written.startswith(house.log(run.id))
    assert len(house.log(run.id)) < len(run.written)
    full.unlink()
    run.expect_a_whole_end()
    assert house.execute(spec(big())).state == run_pb2.RUN_STATE_SUCCEEDED
    assert (epoch_of(agent), house.server.pid) == (epoch, server_pid)


def locked_out(house: House, period_s: float) -> None:
    """Another process holds the database for so long; meanwhile a run is asked for, ends, and is watched."""
    agent = house.agent("r1")
    run = Flood(house, 10_000)
    run.pid()
    epoch = epoch_of(agent)
    lock = sqlite3.connect(house.server_directory / "banksman.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    made: list[run_pb2.Run] = []
    asking = threading.Thread(target=lambda: made.append(house.submit(spec(TRUE))), name="asking")
    asking.start()
    run.gate.send()
    last(period_s)
    assert not made, "a run was acknowledged that nobody could store"
    assert house.get(run.id).state == run_pb2.RUN_STATE_RUNNING
    lock.execute("ROLLBACK")
    lock.close()
    asking.join(60)
    run.expect_a_whole_end()
    assert house.wait(made[0].id).state == run_pb2.RUN_STATE_SUCCEEDED
    assert epoch_of(agent) == epoch


def test_a_database_that_somebody_else_locks_is_waited_for(house: House) -> None:
    locked_out(house, 3)


def refused_start(state_directory: pathlib.Path, place: pathlib.Path) -> str:
    """What the server says when it does not start on this state directory."""
    argv = [sys.executable, "-m", "control_plane", "serve", "--listen", "127.0.0.1:0"]
    program = Program("refused", [*argv, "--state-dir", str(state_directory)], place)
    program.start()
    assert program.wait() == 1
    assert "Traceback" not in program.said()
    return program.said()


def test_a_state_directory_that_cannot_be_written_is_refused(tmp_path: pathlib.Path) -> None:
    # Not even root can make anything there.
    assert "cannot be used" in refused_start(pathlib.Path("/proc/self/banksman"), tmp_path)


def cut_in_half(path: pathlib.Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def scribble(path: pathlib.Path) -> None:
    with path.open("r+b") as file:
        for place in range(4096, path.stat().st_size, 8192):
            file.seek(place)
            file.write(random.Random(place).randbytes(64))


def tear_a_page(path: pathlib.Path) -> None:
    """One page, of something that a start does not read."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ix_run_events_task'").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 100)


def empty(path: pathlib.Path) -> None:
    path.write_bytes(b"this was a database once\n" * 1000)


def test_a_damaged_database_is_refused_with_the_way_out(house: House) -> None:
    run = house.submit(spec(TRUE))
    house.server.stop()
    database = house.server_directory / "banksman.db"
    whole = database.read_bytes()
    for damage in (cut_in_half, scribble, empty, tear_a_page):
        database.write_bytes(whole)
        damage(database)
        with pytest.raises(CannotOpen, match="restore a backup"):
            Database.open(house.server_directory, SystemClock())
    said = refused_start(house.server_directory, house.root)
    assert str(database) in said
    assert "restore a backup" in said
    database.write_bytes(whole)
    house.start_server()
    assert house.get(run.id).id == run.id


def segments(house: House) -> list[pathlib.Path]:
    return sorted((house.server_directory / "logs").glob("*/*.seg"))


def test_damaged_logs_are_never_served_as_they_are(house: House) -> None:
    house.agent("r1")
    runs = [Flood(house, 300_000, seed=seed) for seed in range(2)]
    for run in runs:
        run.pid()
        run.gate.send()
        run.expect_a_whole_end()
    house.server.kill_dash_nine()
    flipped, cut = segments(house)
    with flipped.open("r+b") as file:
        file.seek(150_000)
        byte = file.read(1)
        file.seek(150_000)
        file.write(bytes([byte[0] ^ 1]))
    cut_in_half(cut)
    house.start_server()
    for run in runs:
        read, missing, where = b"", 0, 0
        for item in house.batches(run.id):
            for record in item.batch.records:
                piece = run.written[where : where + len(record.data)]
                assert record.data == piece, "changed bytes were served"
                where += len(record.data) + record.gap_bytes
                read, missing = read + record.data, missing + record.gap_bytes
        assert 0 < len(read) < len(run.written)
        assert not house.log_end(run.id).complete
        assert house.get(run.id).state == run_pb2.RUN_STATE_FAILED
    assert house.execute(spec(TRUE)).state == run_pb2.RUN_STATE_SUCCEEDED
    assert "Traceback" not in house.server.said(100_000)
