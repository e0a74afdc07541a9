"""Five runners, each behind a network of its own, cut off again and again; their runs are retried when lost."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from banksman.v1 import run_pb2

from tests.scenarios.house import FINISHED, House
from tests.scenarios.links import Truthful, behind, loss
from tests.scenarios.proxy import Proxy, Way
from tests.scenarios.specs import seconds
from tests.waiting import wait_for

RUNNERS = 5
AT_ONCE = 10
# A lease is 1.5 s, lost_after 3 s.
LENGTHS_S = (0.4, 1.0, 2.5, 3.1, 3.6, 4.5, 6.0)
WAYS = ((Way.UP, Way.DOWN), (Way.UP,), (Way.DOWN,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the runs' own words say."""

    partitions: int
    runs: int
    starts: int
    lost: int
    overlaps: int


class Partitions:
    """Brings them about and judges them."""

    def __init__(self, house: House, chance: random.Random) -> None:
        self._house, self._chance = house, chance
        self._proxies = [Proxy(house.admin.target) for _ in range(RUNNERS)]
        self._runs: list[Truthful] = []
        self._count = 0
        for number, proxy in enumerate(self._proxies):
            behind(house, proxy, f"r{number}", slots=4)

    def bring(self, rounds: int) -> None:
        """In each round every runner is cut off once, for a length of its own."""
        for _ in range(rounds):
            self._top_up()
            plan = sorted(
                ((self._chance.choice(LENGTHS_S), proxy) for proxy in self._proxies), key=lambda item: item[0]
            )
            began_s = time.monotonic()
            held = [self._cut_off(proxy) for _, proxy in plan]
            for (length_s, proxy), ways in zip(plan, held, strict=True):
                self._until(began_s + length_s)
                proxy.hold(False, *ways)
                if self._chance.random() < 0.5:
                    proxy.cut()
            self._count += len(plan)
            self._until(time.monotonic() + self._chance.choice((0.2, 1.0, 2.0)))

    def judge(self) -> Found:
        """When everything has ended."""
        starts = lost = overlaps = 0
        for run in self._runs:
            done = self._house.wait(run.id, timeout_s=120)
            assert done.state in (run_pb2.RUN_STATE_SUCCEEDED, run_pb2.RUN_STATE_LOST), done
            assert not (done.kill_confirmed and run.alive()), done
            began = run.said("start")
            epochs = [int(item[3]) for item in began]
            assert len(set(epochs)) == len(epochs), f"one attempt began twice: {began}"
            assert set(epochs) <= {attempt.lease_epoch for attempt in done.attempts}
            starts += len(began)
            lost += sum(attempt.state == run_pb2.ATTEMPT_STATE_LOST for attempt in done.attempts)
            overlaps += len(run.said("overlap"))
        return Found(partitions=self._count, runs=len(self._runs), starts=starts, lost=lost, overlaps=overlaps)

    def close(self) -> None:
        for proxy in self._proxies:
            proxy.close()

    def _top_up(self) -> None:
        active = sum(self._house.get(run.id).state not in FINISHED for run in self._runs)
        for number in range(active, AT_ONCE):
            name = f"run-{len(self._runs)}"
            count = 200 + 100 * (number % 5)
            self._runs.append(Truthful(self._house, name, count, loss=loss(3, retry=True), grace=seconds(0.2)))

    def _cut_off(self, proxy: Proxy) -> tuple[Way, ...]:
        ways = self._chance.choice(WAYS)
        proxy.hold(True, *ways)
        return ways

    @staticmethod
    def _until(instant_s: float) -> None:
        wait_for(lambda: time.monotonic() >= instant_s, what="time goes on", timeout_s=60)
