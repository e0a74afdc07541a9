"""A cancel stops the whole process tree, and says so only when the kernel does."""

from __future__ import annotations

import pathlib

import grpc
import pytest
from banksman.v1 import run_pb2

from tests.scenarios.children import PATIENT, STUBBORN, lines, locked, python
from tests.scenarios.house import House
from tests.scenarios.specs import seconds, spec


def test_a_tree_that_ignores_the_signal_is_dead_after_the_grace(shared: House, here: pathlib.Path) -> None:
    arrived, lock = shared.fifo(here / "arrived"), here / "lock"
    run = shared.submit(spec(python(STUBBORN, lock, arrived.path), grace=seconds(0.3)))
    who = {arrived.receive().split()[0] for _ in range(2)}
    assert who == {"child", "grandchild"}
    assert locked(lock)
    answer = shared.cancel(run.id, note="enough")
    assert answer.state == run_pb2.RUN_STATE_CANCELLING
    done = shared.wait(run.id)
    assert not locked(lock), "a process of the run is left"
    assert (done.state, done.reason) == (run_pb2.RUN_STATE_CANCELLED, run_pb2.REASON_USER_CANCEL)
    assert done.kill_confirmed
    assert done.cancel_note == "enough"
    assert done.cancelled_by
    stop = done.attempts[0].stop
    assert (stop.phase, stop.reason) == (run_pb2.STOP_PHASE_KILLED, run_pb2.REASON_USER_CANCEL)
    assert shared.log(run.id) == b"ready\n"


def test_a_child_that_obeys_is_not_killed(shared: House, here: pathlib.Path) -> None:
    arrived, lock = shared.fifo(here / "arrived"), here / "lock"
    run = shared.submit(spec(python(PATIENT, lock, arrived.path), grace=seconds(60)))
    arrived.receive()
    shared.cancel(run.id)
    done = shared.wait(run.id, timeout_s=30)  # sooner than the grace
    assert (done.state, done.kill_confirmed, done.signal) == (run_pb2.RUN_STATE_CANCELLED, True, 15)
    assert not locked(lock)


def test_a_child_may_finish_its_work_within_the_grace(shared: House, here: pathlib.Path) -> None:
    arrived = shared.fifo(here / "arrived")
    text = (
        "import os, signal, sys\n"
        "def leave(*_):\n    os.write(1, b'saved\\n')\n    os._exit(0)\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        "open(sys.argv[1], 'wb', 0).write(b'here\\n')\n"
        "while True: signal.pause()\n"
    )
    run = shared.submit(spec(python(text, arrived.path)))
    arrived.receive()
    shared.cancel(run.id)
    done = shared.wait(run.id)
    assert (done.state, done.exit_code) == (run_pb2.RUN_STATE_CANCELLED, 0)
    assert shared.log(run.id) == b"saved\n"


def test_the_first_signal_is_the_one_that_was_asked_for(shared: House, here: pathlib.Path) -> None:
    arrived, lock = shared.fifo(here / "arrived"), here / "lock"
    run = shared.submit(spec(python(PATIENT, lock, arrived.path), stop_signal="SIGQUIT", grace=seconds(60)))
    arrived.receive()
    shared.cancel(run.id)
    assert shared.wait(run.id).signal == 3


def test_a_queued_run_that_is_cancelled_never_starts(house: House) -> None:
    tally = house.root / "tally"
    run = house.submit(spec(python("open(__import__('sys').argv[1], 'a').write('x')", tally)))
    assert house.get(run.id).waiting_because, "a queued run says why it waits"
    assert house.cancel(run.id).state == run_pb2.RUN_STATE_CANCELLED
    house.agent("r1")
    assert house.execute(spec(["/bin/true"])).state == run_pb2.RUN_STATE_SUCCEEDED
    done = house.get(run.id)
    assert (done.state, len(done.attempts)) == (run_pb2.RUN_STATE_CANCELLED, 0)
    assert not tally.exists()


def test_a_cancel_that_is_asked_twice_answers_the_same_run(house: House) -> None:
    run = house.submit(spec(["/bin/true"]))
    first = house.cancel(run.id, note="one")
    second = house.cancel(run.id, note="two")
    assert (second.state, second.cancel_note) == (first.state, "one")


def test_a_finished_run_cannot_be_cancelled(shared: House) -> None:
    run = shared.execute(spec(["/bin/true"]))
    with pytest.raises(grpc.RpcError) as refused:
        shared.cancel(run.id)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert shared.get(run.id).state == run_pb2.RUN_STATE_SUCCEEDED


def test_a_cancel_reaches_an_agent_that_was_dead(house: House) -> None:
    agent = house.agent("r1")
    arrived, lock = house.fifo("arrived"), house.root / "lock"
    run = house.submit(spec(python(STUBBORN, lock, arrived.path), grace=seconds(0.2)))
    arrived.receive(), arrived.receive()
    agent.kill_dash_nine()
    assert house.cancel(run.id).state == run_pb2.RUN_STATE_CANCELLING
    assert locked(lock), "nobody was there to hear it"
    agent.connect()
    done = house.wait(run.id)
    assert (done.state, done.kill_confirmed) == (run_pb2.RUN_STATE_CANCELLED, True)
    assert not locked(lock)


def test_a_cancel_survives_a_kill_of_the_server(house: House) -> None:
    agent = house.agent("r1")
    arrived, lock = house.fifo("arrived"), house.root / "lock"
    run = house.submit(spec(python(STUBBORN, lock, arrived.path), grace=seconds(0.2)))
    arrived.receive(), arrived.receive()
    agent.kill_dash_nine()
    house.cancel(run.id)
    house.server.kill_dash_nine()
    house.start_server()
    agent.connect()
    done = house.wait(run.id)
    assert (done.state, done.kill_confirmed) == (run_pb2.RUN_STATE_CANCELLED, True)
    assert not locked(lock)


def test_a_forced_cancel_is_final_at_once_and_the_host_still_kills(house: House) -> None:
    agent = house.agent("r1")
    arrived, lock = house.fifo("arrived"), house.root / "lock"
    run = house.submit(spec(python(STUBBORN, lock, arrived.path), grace=seconds(0.2)))
    arrived.receive(), arrived.receive()
    agent.kill_dash_nine()
    forced = house.cancel(run.id, force=True)
    assert (forced.state, forced.kill_confirmed) == (run_pb2.RUN_STATE_CANCELLED, False), "nobody has proven it"
    agent.connect()
    done = house.wait(run.id)
    assert (done.state, done.kill_confirmed) == (run_pb2.RUN_STATE_CANCELLED, True)
    assert not locked(lock)


def test_a_run_that_is_cancelled_is_not_retried(shared: House, here: pathlib.Path) -> None:
    arrived, tally = shared.fifo(here / "arrived"), here / "tally"
    text = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: os._exit(9))\n"
        "open(sys.argv[1], 'a').write('x\\n')\n"
        "open(sys.argv[2], 'wb', 0).write(b'here\\n')\n"
        "while True: signal.pause()\n"
    )
    many = run_pb2.Run().spec.retry
    many.max_attempts = 5
    many.backoff.FromSeconds(1)
    run = shared.submit(spec(python(text, tally, arrived.path), retry=many))
    arrived.receive()
    shared.cancel(run.id)
    done = shared.wait(run.id)
    assert (done.state, len(done.attempts)) == (run_pb2.RUN_STATE_CANCELLED, 1)
    assert lines(tally) == ["x"]
