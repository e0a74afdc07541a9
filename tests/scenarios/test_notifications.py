"""Notifications: real servers and runs; a real receiver checks signatures with the convention's own library."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from banksman.v1 import notification_pb2, run_pb2, schedule_pb2, secret_pb2, task_pb2
from standardwebhooks.webhooks import Webhook

from tests.scenarios.house import House
from tests.scenarios.receiver import Received, Receiver
from tests.scenarios.specs import spec
from tests.waiting import wait_for

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
LOOPBACK = {"notify_http": True, "notify_ports": "*", "notify_networks": "127.0.0.0/8", "notify_first_wait_s": 0.05}
ALL = [number for number in task_pb2.NotificationEvent.values() if number]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with House(**LOOPBACK, notify_channels="json") as house:
        house.agent("one")
        house.doors.secrets.SetSecret(secret_pb2.SetSecretRequest(name="HOOK", value=SECRET.encode()))
        yield house


def task(house: House, name: str, *argv: str, **settings: Any) -> task_pb2.Task:
    told = task_pb2.NotificationSettings(**({"events": ALL} | settings))
    made = task_pb2.Task(name=name, spec=spec(argv), notifications=[told])
    return house.doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=made))


def run(house: House, made: task_pb2.Task) -> run_pb2.Run:
    return house.doors.tasks.RunTask(task_pb2.RunTaskRequest(task=made.id))


def deliveries(house: House, **wanted: Any) -> list[notification_pb2.Delivery]:
    request = notification_pb2.ListDeliveriesRequest(**wanted)
    return list(house.doors.notifications.ListDeliveries(request).deliveries)


def verified(each: Received) -> dict[str, Any]:
    """The message, if the signature is good. Raises WebhookVerificationError."""
    message: dict[str, Any] = Webhook(SECRET).verify(each.body, dict(each.headers))
    return message


def test_every_step_of_a_run_is_told_once_and_signed(house: House) -> None:
    with Receiver() as receiver:
        made = task(house, "steps", "sh", "-c", "exit 3", webhook_url=receiver.url, secret_ref="HOOK")
        ended = house.wait(run(house, made).id)
        kinds = ["run.created", "run.started", "run.finished", "run.failed", "run.settled"]
        for kind in kinds:
            (each,) = receiver.wait(kind)
            message = verified(each)
            assert message["data"]["run"]["id"] == ended.id
            assert message["data"]["task"] == {"id": made.id, "name": "steps"}
        (finished,) = receiver.of("run.finished")
        assert finished.message["data"]["run"] | {"state": "FAILED", "exit_code": 3} == finished.message["data"]["run"]
        listed = wait_delivered(house, ended.id, len(kinds))
        assert {each.id for each in listed} == {each.id for each in receiver.received}
        assert [each.id for each in listed] == sorted((each.id for each in listed), reverse=True)
        assert all(each.attempts == 1 and each.response_status == 204 for each in listed)
        assert not receiver.of("run.lost")
        assert not receiver.of("run.cancelled")


def wait_delivered(house: House, run_id: str, count: int) -> list[notification_pb2.Delivery]:
    def done() -> bool:
        return len(deliveries(house, run=run_id, state=notification_pb2.DELIVERY_STATE_DELIVERED)) >= count

    wait_for(done, what=f"{count} notifications are delivered")
    return deliveries(house, run=run_id)


def test_a_receiver_that_fails_gets_the_same_message_again(house: House) -> None:
    answers = iter([500, 302, 503])
    with Receiver() as receiver:
        receiver.answer = lambda _: (next(answers, 204), {"location": receiver.url + "/elsewhere"})
        events = [task_pb2.NOTIFICATION_EVENT_FINISHED]
        made = task(house, "again", "true", webhook_url=receiver.url, secret_ref="HOOK", events=events)
        ended = house.wait(run(house, made).id)
        got = receiver.wait("run.finished", 4)
        (delivered,) = wait_delivered(house, ended.id, 1)
        assert {each.id for each in got} == {delivered.id}
        assert len({each.body for each in got}) == 1
        assert {each.path for each in got} == {"/hook"}, "no redirect is followed"
        for each in got:
            verified(each)
        assert delivered.attempts == 4
        assert not delivered.error


def test_a_receiver_that_hangs_holds_up_neither_runs_nor_other_receivers(house: House) -> None:
    go_on = threading.Event()

    def hang(_: Received) -> tuple[int, dict[str, str]]:
        go_on.wait(60)
        return 204, {}

    with Receiver(hang) as slow, Receiver() as quick:
        events = [task_pb2.NOTIFICATION_EVENT_FINISHED]
        hung = task(house, "hung", "true", webhook_url=slow.url, events=events)
        quickly = task(house, "quickly", "true", webhook_url=quick.url, events=events)
        for _ in range(6):
            assert house.wait(run(house, hung).id).state == run_pb2.RUN_STATE_SUCCEEDED
        slow.wait("run.finished", 4)
        house.wait(run(house, quickly).id)
        (each,) = quick.wait("run.finished")
        assert "webhook-signature" not in each.headers, "without a secret there is no signature"
        assert len(slow.received) == 4, "so many at once to one receiver"
        go_on.set()
        slow.wait("run.finished", 6)


def test_a_notification_can_be_sent_again(house: House) -> None:
    with Receiver(lambda _: (410, {})) as receiver:
        events = [task_pb2.NOTIFICATION_EVENT_CREATED]
        made = task(house, "redelivered", "true", webhook_url=receiver.url, secret_ref="HOOK", events=events)
        started = run(house, made)
        failed = notification_pb2.DELIVERY_STATE_FAILED
        wait_for(lambda: bool(deliveries(house, run=started.id, state=failed)), what="the receiver is gone for good")
        (given_up,) = deliveries(house, run=started.id)
        assert (given_up.attempts, given_up.response_status) == (1, 410)
        receiver.answer = lambda _: (200, {})
        said = house.cli("notification", "redeliver", given_up.id, "-o", "json")
        assert json.loads(said.stdout)["id"] == given_up.id
        wait_delivered(house, started.id, 1)
        first, second = receiver.received
        assert (first.id, first.body) == (second.id, second.body)
        listed = house.cli("notification", "list", "--run", started.id, "--state", "delivered", "-o", "name")
        assert listed.stdout.decode().split() == [given_up.id]


def test_a_paused_schedule_is_told(house: House) -> None:
    with Receiver() as receiver:
        made = task(house, "paused", "true", webhook_url=receiver.url, secret_ref="HOOK")
        wanted = schedule_pb2.Schedule(name="yearly", task_id=made.id, cron="0 0 1 1 *")
        schedule = house.doors.schedules.CreateSchedule(schedule_pb2.CreateScheduleRequest(schedule=wanted))
        for _ in range(2):
            pause = schedule_pb2.PauseScheduleRequest(schedule=schedule.id, note="holidays")
            house.doors.schedules.PauseSchedule(pause)
        (each,) = receiver.wait("schedule.paused")
        assert verified(each)["data"]["schedule"] == {"id": schedule.id, "name": "yearly", "note": "holidays"}


def test_another_channel_gets_a_headline_through_its_library(house: House) -> None:
    with Receiver() as receiver:
        channel = f"json://127.0.0.1:{receiver.port}/channel"
        house.doors.secrets.SetSecret(secret_pb2.SetSecretRequest(name="CHANNEL", value=channel.encode()))
        events = [task_pb2.NOTIFICATION_EVENT_FINISHED]
        made = task(house, "channelled", "false", secret_ref="CHANNEL", events=events)
        ended = house.wait(run(house, made).id)
        wait_delivered(house, ended.id, 1)
        (each,) = receiver.received
        assert each.message["title"] == "channelled: run.finished"
        assert "failed (EXIT_NONZERO) with exit code 1" in each.message["message"]


def test_a_channel_that_fails_is_tried_again_and_listed(house: House) -> None:
    answers = iter([500])
    with Receiver() as receiver:
        receiver.answer = lambda _: (next(answers, 204), {})
        channel = f"json://127.0.0.1:{receiver.port}/failing"
        house.doors.secrets.SetSecret(secret_pb2.SetSecretRequest(name="FAILING", value=channel.encode()))
        events = [task_pb2.NOTIFICATION_EVENT_FINISHED]
        made = task(house, "failing channel", "true", secret_ref="FAILING", events=events)
        ended = house.wait(run(house, made).id)
        (delivered,) = wait_delivered(house, ended.id, 1)
        assert (delivered.attempts, len(receiver.received)) == (2, 2)
    assert "failing" not in house.server.output.read_text()


def test_what_was_not_delivered_when_the_server_was_killed_is_delivered_by_the_next() -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def hang(_: Received) -> tuple[int, dict[str, str]]:
        arrived.set()
        go_on.wait(60)
        return 204, {}

    with House(**LOOPBACK) as house, Receiver(hang) as receiver:
        events = [task_pb2.NOTIFICATION_EVENT_CREATED]
        made = task(house, "killed", "true", webhook_url=receiver.url, events=events)
        started = run(house, made)
        assert arrived.wait(45)
        house.server.kill_dash_nine()
        go_on.set()
        house.start_server()
        house.doors = house.client()
        wait_delivered(house, started.id, 1)
        assert len(receiver.received) == 2
        assert len({(each.id, each.body) for each in receiver.received}) == 1


def test_addresses_of_this_host_are_refused_unless_the_operator_allows_them() -> None:
    with House(notify_http=True, notify_ports="*", notify_first_wait_s=0.05) as house, Receiver() as receiver:
        for host in ("127.0.0.1", "[::ffff:127.0.0.1]", "0.0.0.0"):
            with pytest.raises(grpc.RpcError) as caught:
                task(house, "inward", "true", webhook_url=f"http://{host}:{receiver.port}/hook")
            assert "the host's address is not allowed: see the setting notify_networks" in caught.value.details()
        hosts = ["localhost", "2130706433", "0x7f.1"]
        started = []
        for index, host in enumerate(hosts):
            url = f"http://{host}:{receiver.port}/hook"
            started.append(run(house, task(house, f"inward-{index}", "true", webhook_url=url)))
        for each in started:
            wait_for(lambda: all(told.attempts for told in deliveries(house, run=each.id)), what="it was tried")  # noqa: B023
            assert {told.error for told in deliveries(house, run=each.id)} == {
                "the host's address is not allowed: see the setting notify_networks"
            }
        assert receiver.received == []
