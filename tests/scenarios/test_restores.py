"""A control plane that was restored from a backup: by the steps of docs/server.md, and without anybody saying so."""

from __future__ import annotations

import pathlib
import shutil
import sqlite3
import subprocess
import sys

from banksman.v1 import run_pb2, runner_pb2

from tests.scenarios.children import PATIENT, PAUSE, lines, locked, python
from tests.scenarios.house import House
from tests.scenarios.links import last, loss
from tests.scenarios.specs import seconds, spec
from tests.waiting import wait_for

GENERATION = 1 << 48


def back_up(house: House) -> pathlib.Path:
    """As docs/server.md says, while the server runs: the database by SQLite's own backup, then logs and keys."""
    backup = house.root / "backup"
    backup.mkdir()
    with sqlite3.connect(house.server_directory / "banksman.db") as source:
        target = sqlite3.connect(backup / "banksman.db")
        source.backup(target)
        target.close()
    source.close()
    shutil.copytree(house.server_directory / "logs", backup / "logs")
    for name in ("secret.key", "runner.key"):
        shutil.copy2(house.server_directory / name, backup)
    return backup


def restore(house: House, backup: pathlib.Path, *, on_a_new_host: bool) -> None:
    """As docs/server.md says, while no server runs; on a new host there is nothing but the backup."""
    if on_a_new_host:
        shutil.rmtree(house.server_directory)
        house.server_directory.mkdir(mode=0o700)
    for name in ("banksman.db", "banksman.db-wal", "banksman.db-shm"):
        (house.server_directory / name).unlink(missing_ok=True)
    shutil.copy2(backup / "banksman.db", house.server_directory)
    if on_a_new_host:
        for name in ("secret.key", "runner.key"):
            shutil.copy2(backup / name, house.server_directory)
        shutil.copytree(backup / "logs", house.server_directory / "logs")


def say_restored(house: House) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "control_plane", "restored", "--state-dir", str(house.server_directory)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


class Story:
    """Two runs of the backup's time, queued and running; then the lost time, in which the queued one is started."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.first = house.agent("r1", slots=1)
        self.tally, self.arrived, self.gate = house.root / "tally", house.fifo("arrived"), house.fifo("gate")
        self.argv = python(PAUSE, self.tally, self.arrived.path, self.gate.path)
        self.running = house.submit(spec(self.argv)).id
        self.arrived.receive()
        self.queued = house.submit(spec(self.argv)).id
        self.backup = back_up(house)
        self.gate.send()
        house.wait(self.running)
        self.arrived.receive()  # what was queued runs now
        self.second = house.agent("r2", slots=1)
        self.lock, begun = house.root / "lock", house.fifo("begun")
        stays = spec(python(PATIENT, self.lock, begun.path), loss=loss(3), grace=seconds(0.2), runner="r2")
        self.unknown = house.submit(stays).id
        begun.receive()

    def runner(self, name: str) -> runner_pb2.Runner:
        return self.house.doors.runners.GetRunner(runner_pb2.GetRunnerRequest(runner=name))

    def expect_nothing_twice(self) -> None:
        assert len(lines(self.tally)) == 2


def test_a_server_that_was_restored_by_the_book_runs_nothing_twice() -> None:
    with House(heartbeat_shortest_s=0.5, loss_margin_s=0.5, testing=True) as house:
        story = Story(house)
        assert "is in use" in say_restored(house).stderr
        house.server.kill_dash_nine()
        restore(house, story.backup, on_a_new_host=True)
        said = say_restored(house)
        assert (said.returncode, said.stderr) == (0, ""), said
        assert "generation 1" in said.stdout
        house.start_server()
        house.doors = house.client()
        third = house.agent("r3", slots=4)  # has room for whatever is offered, and knows nothing of the lost time
        story.first.wait_connected()
        wait_for(lambda: _says_why_it_waits(house, story), what="the queued run says why it waits")
        _expect_withheld(story)
        house.server.kill_dash_nine()  # what is withheld outlives the next restart, before anybody is back
        house.start_server()
        third.wait_connected()
        story.first.wait_connected()
        _expect_withheld(story)
        _expect_the_end(story)


def _says_why_it_waits(house: House, story: Story) -> bool:
    waits = house.get(story.queued).waiting_because
    return "restored" in waits or "r1" in waits


def _expect_withheld(story: Story) -> None:
    """The run that the backup holds as queued lives on r1 under a fence that this database never gave out."""
    house = story.house
    wait_for(lambda: story.queued in story.runner("r1").unknown_run_ids, what="r1 is shown with an unknown run")
    wait_for(lambda: "r1" in house.get(story.queued).waiting_because, what="the run waits because of r1")
    assert house.get(story.queued).state == run_pb2.RUN_STATE_QUEUED
    story.expect_nothing_twice()


def _expect_the_end(story: Story) -> None:
    house = story.house
    wait_for(lambda: not locked(story.lock), what="r2's unknown run is stopped by its own loss deadline")
    story.gate.send()  # the unknown one on r1 ends; only then is the run of the backup's time started
    story.arrived.receive()
    assert len(lines(story.tally)) == 3
    story.gate.send()
    done = house.wait(story.queued)
    assert done.state == run_pb2.RUN_STATE_SUCCEEDED
    assert done.attempts[0].lease_epoch > GENERATION
    assert house.log(story.queued) == b"before\nafter\n"


def test_a_restore_that_nobody_told_of_is_noticed() -> None:
    with House(heartbeat_shortest_s=0.5, loss_margin_s=0.5, testing=True) as house:
        story = Story(house)
        assert house.server.stop() == 0
        restore(house, story.backup, on_a_new_host=False)
        house.start_server()
        house.agent("r3", slots=4)
        assert "it was restored from a backup" in house.server.said(100_000)
        story.first.wait_connected()
        last(1)
        story.expect_nothing_twice()
        story.gate.send()
        story.arrived.receive()
        story.gate.send()
        assert house.wait(story.queued).attempts[0].lease_epoch > GENERATION
