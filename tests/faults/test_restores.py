"""After a restore: a runner that joined in the lost time, and a host that keeps the runs of that time to itself."""

from __future__ import annotations

from banksman.v1 import run_pb2

from tests.scenarios.children import locked
from tests.scenarios.house import House
from tests.scenarios.test_restores import Story, restore, say_restored
from tests.waiting import wait_for


def test_a_runner_that_joined_in_the_lost_time_says_what_to_do_and_its_runs_end_by_themselves() -> None:
    with House(heartbeat_shortest_s=0.5, loss_margin_s=0.5, testing=True) as house:
        story = Story(house)
        house.server.kill_dash_nine()
        restore(house, story.backup, on_a_new_host=True)
        assert say_restored(house).returncode == 0
        house.start_server()
        house.doors = house.client()
        wait_for(lambda: not locked(story.lock), what="its run is stopped by its loss deadline")
        wait_for(lambda: "join anew" in story.second.said(), what="it says what to do", timeout_s=90)
        story.second.expect_running()


def test_a_run_that_had_ended_in_the_lost_time_is_lost_and_not_run_again() -> None:
    with House(heartbeat_shortest_s=0.5, loss_margin_s=0.5, testing=True) as house:
        story = Story(house)
        house.server.kill_dash_nine()
        restore(house, story.backup, on_a_new_host=True)
        assert say_restored(house).returncode == 0
        house.start_server()
        house.doors = house.client()
        story.first.wait_connected()
        run = house.get(story.running)
        assert run.state == run_pb2.RUN_STATE_RUNNING
        house.cancel(story.running, force=True)
        assert house.get(story.running).state == run_pb2.RUN_STATE_CANCELLED
        story.expect_nothing_twice()
