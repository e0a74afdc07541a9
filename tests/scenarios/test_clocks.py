"""Limits in time end a run for the reason that they name; retries follow their policy."""

from __future__ import annotations

import pathlib
import time

import pytest
from banksman.v1 import run_pb2, spec_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from tests.scenarios.children import FLAKY, PATIENT, STUBBORN, lines, locked, python
from tests.scenarios.house import House
from tests.scenarios.specs import command, seconds, spec
from tests.waiting import wait_for


def from_now(later_s: float) -> Timestamp:
    moment = Timestamp()
    moment.FromMilliseconds(round((time.time() + later_s) * 1000))
    return moment


def retry(attempts: int, *on: str) -> spec_pb2.RetryPolicy:
    return spec_pb2.RetryPolicy(max_attempts=attempts, backoff=seconds(1), backoff_cap=seconds(1), retry_on=on)


def test_a_run_that_lasts_too_long_is_stopped(shared: House, here: pathlib.Path) -> None:
    arrived, lock = shared.fifo(here / "arrived"), here / "lock"
    run = shared.execute(spec(python(PATIENT, lock, arrived.path), timeout=seconds(1)))
    assert (run.state, run.reason) == (run_pb2.RUN_STATE_TIMED_OUT, run_pb2.REASON_RUN_TIMEOUT)
    assert run.kill_confirmed
    assert not locked(lock)


def test_a_timeout_kills_a_tree_that_ignores_the_signal(shared: House, here: pathlib.Path) -> None:
    arrived, lock = shared.fifo(here / "arrived"), here / "lock"
    run = shared.execute(spec(python(STUBBORN, lock, arrived.path), timeout=seconds(1), grace=seconds(0.2)))
    assert (run.state, run.kill_confirmed) == (run_pb2.RUN_STATE_TIMED_OUT, True)
    assert not locked(lock)


def test_a_timeout_fires_while_agent_and_server_are_dead(house: House) -> None:
    agent = house.agent("r1")
    arrived, lock = house.fifo("arrived"), house.root / "lock"
    run = house.submit(spec(python(PATIENT, lock, arrived.path), timeout=seconds(2)))
    arrived.receive()
    agent.kill_dash_nine()
    house.server.kill_dash_nine()
    wait_for(lambda: not locked(lock), what="the shim stops its child by itself")
    house.start_server()
    agent.connect()
    done = house.wait(run.id)
    assert (done.state, done.reason) == (run_pb2.RUN_STATE_TIMED_OUT, run_pb2.REASON_RUN_TIMEOUT)


def test_a_silent_run_is_stopped(shared: House, here: pathlib.Path) -> None:
    arrived, lock = shared.fifo(here / "arrived"), here / "lock"
    run = shared.execute(spec(python(PATIENT, lock, arrived.path), idle_timeout=seconds(1)))
    assert (run.state, run.reason) == (run_pb2.RUN_STATE_TIMED_OUT, run_pb2.REASON_IDLE_TIMEOUT)
    assert not locked(lock)


def test_a_step_that_lasts_too_long_is_stopped(shared: House, here: pathlib.Path) -> None:
    arrived, lock = shared.fifo(here / "arrived"), here / "lock"
    slow = command(python(PATIENT, lock, arrived.path))
    slow.timeout.CopyFrom(seconds(1))
    run = shared.execute(spec(slow, ["/bin/echo", "never"]))
    assert run.state in (run_pb2.RUN_STATE_TIMED_OUT, run_pb2.RUN_STATE_FAILED)
    assert not locked(lock)
    assert b"never" not in shared.log(run.id)


def test_a_deadline_stops_a_run_that_runs(shared: House, here: pathlib.Path) -> None:
    arrived, lock = shared.fifo(here / "arrived"), here / "lock"
    options = run_pb2.RunOptions(deadline=from_now(4))
    run = shared.execute(spec(python(PATIENT, lock, arrived.path), retry=retry(5, "timeout")), options=options)
    assert (run.state, run.reason) == (run_pb2.RUN_STATE_TIMED_OUT, run_pb2.REASON_DEADLINE_PASSED)
    assert len(run.attempts) == 1
    assert not locked(lock)


def test_a_deadline_ends_a_run_that_waits(shared: House) -> None:
    run = shared.execute(spec(["/bin/true"], labels={"os": "plan9"}), options=run_pb2.RunOptions(deadline=from_now(1)))
    assert (run.state, run.reason) == (run_pb2.RUN_STATE_EXPIRED, run_pb2.REASON_DEADLINE_PASSED)
    assert not run.attempts


def test_a_run_that_waits_too_long_expires(shared: House) -> None:
    run = shared.execute(spec(["/bin/true"], labels={"os": "plan9"}, queue_timeout=seconds(1)))
    assert (run.state, run.reason) == (run_pb2.RUN_STATE_EXPIRED, run_pb2.REASON_QUEUE_TIMEOUT)
    assert not run.attempts


def test_a_run_does_not_start_before_its_time(shared: House) -> None:
    moment = from_now(2)
    run = shared.submit(spec(["/bin/true"]), options=run_pb2.RunOptions(not_before=moment))
    assert shared.get(run.id).waiting_because
    done = shared.wait(run.id)
    assert done.state == run_pb2.RUN_STATE_SUCCEEDED
    assert done.started_at.ToNanoseconds() >= moment.ToNanoseconds()


def test_a_failure_is_tried_again_until_it_succeeds(shared: House, here: pathlib.Path) -> None:
    run = shared.execute(spec(python(FLAKY, here / "tally", "3"), retry=retry(5)))
    assert run.state == run_pb2.RUN_STATE_SUCCEEDED
    assert [(attempt.number, attempt.exit_code) for attempt in run.attempts] == [(3, 0), (2, 4), (1, 4)]
    assert len(lines(here / "tally")) == 3
    epochs = [attempt.lease_epoch for attempt in run.attempts]
    assert epochs == sorted(set(epochs), reverse=True)
    for attempt in run.attempts:
        assert shared.log(run.id, lease_epoch=attempt.lease_epoch) == b"try %d\n" % attempt.number


def test_a_follower_sees_the_logs_of_all_attempts(shared: House, here: pathlib.Path) -> None:
    gate = shared.fifo(here / "gate")
    text = "import sys\nopen(sys.argv[3], 'rb', 0).readline()\n" + FLAKY
    run = shared.submit(spec(python(text, here / "tally", "2", gate.path), retry=retry(3)))
    shared.wait_state(run.id, run_pb2.RUN_STATE_RUNNING)
    items = shared.batches(run.id, follow=True)
    gate.send(2)
    read, begun, last = b"", 0, None
    for item in items:
        begun += item.HasField("begin")
        read += b"".join(record.data for record in item.batch.records)
        last = item
    assert read == b"try 1\ntry 2\n"
    assert begun >= 1
    assert last is not None
    assert last.end.state == run_pb2.RUN_STATE_SUCCEEDED


def test_tries_are_used_up(shared: House, here: pathlib.Path) -> None:
    run = shared.execute(spec(python(FLAKY, here / "tally", "99"), retry=retry(3)))
    assert (run.state, run.exit_code, len(run.attempts)) == (run_pb2.RUN_STATE_FAILED, 4, 3)
    assert len(lines(here / "tally")) == 3


@pytest.mark.parametrize(("on", "tries"), [((), 1), (("timeout",), 2)])
def test_timeouts_are_retried_only_when_the_policy_says_so(
    shared: House, here: pathlib.Path, on: tuple[str, ...], tries: int
) -> None:
    arrived = shared.fifo(here / "arrived")
    child = python(PATIENT, here / "lock", arrived.path)
    run = shared.execute(spec(child, timeout=seconds(1), retry=retry(2, *on)))
    assert (run.state, len(run.attempts)) == (run_pb2.RUN_STATE_TIMED_OUT, tries)


def test_a_retry_by_hand_is_a_new_run_of_the_same_spec(shared: House, here: pathlib.Path) -> None:
    first = shared.execute(spec(python(FLAKY, here / "tally", "2")))
    assert first.state == run_pb2.RUN_STATE_FAILED
    second = shared.wait(shared.doors.runs.RetryRun(run_pb2.RetryRunRequest(run=first.id)).id)
    assert second.id != first.id
    assert second.state == run_pb2.RUN_STATE_SUCCEEDED
    assert (second.retry_of, second.root_run_id) == (first.id, first.id)
    assert second.trigger_type == run_pb2.TRIGGER_TYPE_RETRY
    assert shared.get(first.id).state == run_pb2.RUN_STATE_FAILED
