"""Kill anything mid-run: the process lives on, nothing runs twice, and no log byte is lost or repeated."""

from __future__ import annotations

import os
import pathlib
import random
import signal
import threading
from typing import Any

import pytest
from banksman.v1 import log_pb2, run_pb2

from tests.history import truthful
from tests.history.recorder import Recorder
from tests.scenarios.children import NOISE, PATIENT, PAUSE, Fifo, lines, locked, python
from tests.scenarios.house import House
from tests.scenarios.specs import spec
from tests.waiting import wait_for

SIZE = 2_000_000


class Paused:
    """A run that has written half of its noise and waits for the gate; it will exit with 3."""

    def __init__(self, house: House) -> None:
        self.noise = random.Random(11).randbytes(SIZE)
        self.arrived: Fifo = house.fifo("arrived")
        self.gate: Fifo = house.fifo("gate")
        self.house = house
        child = python(NOISE, "11", str(SIZE), self.arrived.path, self.gate.path)
        self.id = house.submit(spec(child)).id
        self.pid = int(self.arrived.receive())

    def lives(self) -> bool:
        return pathlib.Path(f"/proc/{self.pid}/fd").exists()

    def wait_until_it_ended(self) -> None:
        wait_for(lambda: not self.lives(), what="the child ended by itself")

    def expect_a_whole_end(self) -> None:
        """Exit code 3, one attempt, and a log that is identical to what was written."""
        run = self.house.wait(self.id)
        assert (run.state, run.exit_code) == (run_pb2.RUN_STATE_FAILED, 3), run
        assert len(run.attempts) == 1
        assert run.kill_confirmed
        assert self.house.log(self.id) == self.noise
        assert run.attempts[0].log_complete
        assert self.house.log_end(self.id).bytes == SIZE


def test_killing_the_agent_disturbs_neither_child_nor_log(house: House) -> None:
    agent = house.agent("r1")
    run = Paused(house)
    agent.kill_dash_nine()
    assert run.lives()
    agent.connect()
    run.gate.send()
    run.expect_a_whole_end()


def test_a_child_that_ends_while_its_agent_is_dead_is_reported(house: House) -> None:
    agent = house.agent("r1")
    run = Paused(house)
    agent.kill_dash_nine()
    run.gate.send()
    run.wait_until_it_ended()
    agent.connect()
    run.expect_a_whole_end()


def test_killing_the_server_disturbs_neither_child_nor_log(house: House) -> None:
    agent = house.agent("r1")
    run = Paused(house)
    house.server.kill_dash_nine()
    assert run.lives()
    run.gate.send()
    run.wait_until_it_ended()
    house.start_server()
    run.expect_a_whole_end()
    assert agent.running


def test_killing_both_disturbs_neither_child_nor_log(house: House) -> None:
    agent = house.agent("r1")
    run = Paused(house)
    agent.kill_dash_nine()
    house.server.kill_dash_nine()
    assert run.lives()
    house.start_server()
    agent.connect()
    run.gate.send()
    run.expect_a_whole_end()


def test_killing_the_agent_again_and_again_runs_nothing_twice(house: House) -> None:
    agent = house.agent("r1")
    arrived, gate, tally = house.fifo("arrived"), house.fifo("gate"), house.root / "tally"
    run = house.submit(spec(python(PAUSE, tally, arrived.path, gate.path)))
    arrived.receive()
    for _ in range(3):
        agent.kill_dash_nine()
        agent.connect()
    gate.send()
    done = house.wait(run.id)
    assert done.state == run_pb2.RUN_STATE_SUCCEEDED
    assert len(lines(tally)) == 1
    assert house.log(run.id) == b"before\nafter\n"


@pytest.mark.parametrize("victim", ["agent", "server", "both"])
def test_a_kill_between_two_steps_neither_skips_nor_repeats_one(house: House, victim: str) -> None:
    agent = house.agent("r1")
    arrived, gate, tally = house.fifo("arrived"), house.fifo("gate"), house.root / "tally"
    step = python(PAUSE, tally, arrived.path, gate.path)
    run = house.submit(spec(step, step))
    first = int(arrived.receive())
    if victim in ("agent", "both"):
        agent.kill_dash_nine()
    if victim in ("server", "both"):
        house.server.kill_dash_nine()
    gate.send()
    second = int(arrived.receive())  # the shim went on by itself
    assert second != first
    if victim in ("server", "both"):
        house.start_server()
    if victim in ("agent", "both"):
        agent.connect()
    gate.send()
    done = house.wait(run.id)
    assert done.state == run_pb2.RUN_STATE_SUCCEEDED, done
    assert lines(tally) == [str(first), str(second)]
    assert house.log(run.id) == b"before\nafter\n" * 2
    assert [step.exit_code for step in done.attempts[0].steps] == [0, 0]


def test_queued_and_running_work_survives_a_server_restart_exactly_once(house: House) -> None:
    agent = house.agent("r1", slots=2)
    tally, arrived, gate = house.root / "tally", house.fifo("arrived"), house.fifo("gate")
    runs = [house.submit(spec(python(PAUSE, tally, arrived.path, gate.path))).id for _ in range(6)]
    arrived.receive()
    arrived.receive()
    house.server.kill_dash_nine()
    house.start_server()
    agent.wait_connected()
    for _ in runs:
        gate.send()
    for run in runs:
        assert house.wait(run).state == run_pb2.RUN_STATE_SUCCEEDED
    assert len(lines(tally)) == len(set(lines(tally))) == 6


def test_a_server_that_is_stopped_and_started_finds_its_runners_again(house: House) -> None:
    agent = house.agent("r1")
    before = agent.runner()
    assert before is not None
    assert house.server.stop() == 0
    house.start_server()
    agent.wait_connected(before.session_epoch)
    assert house.execute(spec(["/bin/true"])).state == run_pb2.RUN_STATE_SUCCEEDED


def test_what_was_answered_is_there_after_a_kill(house: House) -> None:
    created = [house.submit(spec(["/bin/true"]), request_id=f"request-{n}") for n in range(20)]
    house.server.kill_dash_nine()
    house.start_server()
    for number, run in enumerate(created):
        assert house.get(run.id).state == run_pb2.RUN_STATE_QUEUED
        assert house.submit(spec(["/bin/true"]), request_id=f"request-{number}").id == run.id


def test_a_follower_that_drops_and_resumes_loses_and_repeats_nothing(house: House) -> None:
    house.agent("r1")
    run = Paused(house)
    read, offset = b"", 0
    for item in house.batches(run.id, follow=True):
        if item.HasField("batch"):
            read += b"".join(record.data for record in item.batch.records)
            offset = item.batch.next_offset
        if len(read) >= SIZE // 4:
            break  # the connection drops here
    assert offset == len(read)
    run.gate.send()
    for item in house.batches(run.id, follow=True, from_offset=offset):
        if item.HasField("batch"):
            assert item.batch.offset == offset
            read += b"".join(record.data for record in item.batch.records)
            offset = item.batch.next_offset
        else:
            last = item
    assert read == run.noise
    assert last.end.exit_code == 3
    assert last.end.complete


def test_two_followers_and_a_late_reader_see_the_same(house: House) -> None:
    house.agent("r1")
    run = Paused(house)
    seen: dict[int, bytes] = {}

    def follow(number: int) -> None:
        seen[number] = house.log(run.id, follow=True)

    threads = [threading.Thread(target=follow, args=(number,), name=f"follower-{number}") for number in range(2)]
    for thread in threads:
        thread.start()
    run.gate.send()
    for thread in threads:
        thread.join(60)
    assert seen[0] == seen[1] == run.noise == house.log(run.id, log_pb2.LOG_KIND_STDOUT)


def test_a_shim_that_is_killed_takes_its_children_with_it_and_the_run_is_lost(house: House) -> None:
    house.agent("r1")
    arrived, lock = house.fifo("arrived"), house.root / "lock"
    run = house.submit(spec(python(PATIENT, lock, arrived.path)))
    child = int(arrived.receive())
    shim = int(pathlib.Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(shim, signal.SIGKILL)
    done = house.wait(run.id, settled=False)
    assert (done.state, done.reason) == (run_pb2.RUN_STATE_LOST, run_pb2.REASON_SHIM_DIED)
    assert not locked(lock)


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_is_killed_and_when_everything_runs_exactly_once(
    house: House, seed: int, tmp_path: pathlib.Path
) -> None:
    chance = random.Random(seed)
    recorder = Recorder(tmp_path / "history.jsonl", house.root / "truth")
    agent, house.doors = house.agent("r1", slots=3), house.client("", recorder)
    for number in range(16):
        steps = [truthful.plan(name=f"run-{number}", step=step, pieces=30, pause_s=0.002) for step in range(2)]
        run = house.submit(spec(*(truthful.argv(recorder.place, step) for step in steps)))
        recorder.submitted(run.id, steps)
    for kill in range(5):
        wait_for(lambda: len(_begun(recorder)) >= kill * 6 + 1, what="the runs go on", timeout_s=90)  # noqa: B023
        victims = chance.choice([["agent"], ["server"], ["agent", "server"], ["server", "agent"]])
        for victim in victims:
            recorder.fault(victim)
            agent.kill_dash_nine() if victim == "agent" else house.server.kill_dash_nine()
        if "server" in victims:
            house.start_server()
        if "agent" in victims:
            agent.start()
    for run in recorder.plans:
        done = house.wait(run, timeout_s=60)
        assert (done.state, done.kill_confirmed) == (run_pb2.RUN_STATE_SUCCEEDED, True), done
        recorder.read_logs(house.doors, run)
    recorder.expect_whole(house)


def _begun(recorder: Recorder) -> list[dict[str, Any]]:
    return [line for line in recorder.truth() if line["word"] == "start"]
