"""Bad networks for long: cuts at small numbers of bytes, half-open links, 1 Mbit/s, and partitions by the dozen."""

from __future__ import annotations

import random
import time

from banksman.v1 import run_pb2

from tests.faults.figures import Recorder
from tests.faults.partitions import Partitions
from tests.scenarios.house import House
from tests.scenarios.links import Flood, behind, epoch_of, wait_disconnected
from tests.scenarios.proxy import Proxy, Way
from tests.waiting import wait_for

# 24 bytes of HTTP/2's preface, then its settings, the headers of the call, Hello and Welcome.
SMALL = [*range(1, 26, 4), *range(26, 400, 31), *range(400, 1_000, 150)]


def test_a_connection_cut_after_any_small_number_of_bytes_is_dialled_again(house: House) -> None:
    with Proxy(house.admin.target) as proxy:
        agent = behind(house, proxy)
        run = Flood(house, 1_000, more=1_000_000)
        run.pid()
        for number, size in enumerate(SMALL):
            budgets, epoch, resets = [size], epoch_of(agent), proxy.resets
            proxy.cut_after = lambda: budgets.pop() if budgets else None  # noqa: B023
            proxy.cut()
            wait_for(lambda: proxy.resets > resets, what=f"it ends after {size} bytes", timeout_s=60)  # noqa: B023
            agent.wait_connected(epoch)
            if number == len(SMALL) // 2:
                run.gate.send()
        run.expect_a_whole_end()


def test_a_half_open_link_heals_by_itself(house: House, figures: Recorder) -> None:
    with Proxy(house.admin.target) as proxy:
        agent = behind(house, proxy)
        run, epoch = Flood(house, 300_000), epoch_of(agent)
        run.pid()
        began_s = time.monotonic()
        proxy.swallow(True)
        wait_disconnected(agent)
        noticed_s = time.monotonic() - began_s
        run.gate.send()
        wait_for(lambda: proxy.taken > 1, what="the agent dials anew")
        proxy.swallow(False)
        began_s = time.monotonic()
        agent.wait_connected(epoch)
        healed_s = time.monotonic() - began_s
        run.expect_a_whole_end()
    figures.record("half-open link noticed", noticed_s, unit="s", goal="≤ 17", ok=noticed_s <= 17)
    figures.record("half-open link healed by itself", healed_s, unit="s", goal="≤ 45", ok=healed_s <= 45)


def test_a_megabit_for_a_minute_loses_no_session_and_a_cancel_overtakes_the_log(
    house: House, figures: Recorder
) -> None:
    with Proxy(house.admin.target) as proxy:
        agent = behind(house, proxy)
        epoch = epoch_of(agent)
        proxy.shape(125_000)
        size = 20_000_000
        run = Flood(house, size, piece=60_000)
        run.pid()
        before = proxy.passed(Way.UP)
        wait_for(lambda: proxy.passed(Way.UP) > before + 5_000_000, what="the log goes on its way", timeout_s=120)
        began_s = time.monotonic()
        house.cancel(run.id)
        done = house.wait(run.id, settled=False)
        cancelled_s = time.monotonic() - began_s
        assert (done.state, done.kill_confirmed) == (run_pb2.RUN_STATE_CANCELLED, True)
        assert (epoch_of(agent), proxy.taken) == (epoch, 1), "the session was lost"
        proxy.shape(None)
        house.wait(run.id, timeout_s=90)
        assert house.log(run.id) == run.written[:size]
    figures.record("cancel to CANCELLED at 1 Mbit/s", cancelled_s, unit="s", goal="≤ 5", ok=cancelled_s <= 5)


def test_partitions_of_any_length_never_make_two_processes_of_one_run(figures: Recorder) -> None:
    with House(heartbeat_shortest_s=0.5, loss_margin_s=0.5, testing=True) as house:
        partitions = Partitions(house, random.Random(7))
        try:
            partitions.bring(rounds=12)
            found = partitions.judge()
        finally:
            partitions.close()
    figures.record(
        "overlaps, real partitions",
        found.overlaps,
        goal="0 over ≥ 50 partitions",
        ok=found.overlaps == 0 and found.partitions >= 50 and found.lost >= 10,
        note=f"{found.partitions} partitions, {found.runs} runs, {found.lost} attempts lost, {found.starts} processes",
    )
    assert found.overlaps == 0
