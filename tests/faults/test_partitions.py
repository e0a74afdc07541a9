"""Real partitions of every length and kind: a run is never in two places at once, and each settles afterwards."""

from __future__ import annotations

import collections
import pathlib
import random
from concurrent.futures import ThreadPoolExecutor

from banksman.v1 import spec_pb2

from tests.faults.figures import Recorder as Figures
from tests.history import truthful
from tests.history.checker import tally
from tests.history.recorder import Recorder
from tests.scenarios.house import Agent, House
from tests.scenarios.links import behind, last
from tests.scenarios.proxy import BOTH, Proxy, Way
from tests.scenarios.specs import seconds, spec
from tests.waiting import wait_for

SITES, EACH = 4, 14
HEARTBEAT_S, LEASE_S, LOST_AFTER_S, GRACE_S, MARGIN_S = 0.5, 1.5, 3.0, 0.3, 2.0
# Shorter than the lease; between lease and lost_after; so long that the runner stops it; so long that it is freed.
LENGTHS_S = {"lease": 0.8, "silent": 2.2, "stopped": 4.4, "freed": LOST_AFTER_S + GRACE_S + MARGIN_S + 2.5}
KINDS = ("hold", "hold up", "hold down", "swallow", "refuse")


class Site:
    """One runner behind a proxy of its own."""

    def __init__(self, house: House, number: int, recorder: Recorder) -> None:
        self.house = house
        self.recorder = recorder
        self.proxy = Proxy(house.admin.target)
        self.agent: Agent = behind(house, self.proxy, f"r{number}", slots=6)
        self.chance = random.Random(number)
        self.number = number
        self.halted = False
        self.lengths: collections.Counter[str] = collections.Counter()

    def partitions(self, count: int) -> None:
        """One after the other, each under new runs and what is left of the older ones."""
        for number in range(count):
            if self.halted:
                return
            length = list(LENGTHS_S)[(number + self.number) % len(LENGTHS_S)]
            self._submit(number)
            kind = self.chance.choice(KINDS)
            self.recorder.fault("partition", of=self.agent.name, length=length, how=kind)
            self._switch(kind, True)
            last(LENGTHS_S[length] * self.chance.uniform(0.9, 1.1))
            self._switch(kind, False)
            self.proxy.cut()
            self.lengths[length] += 1
            self.agent.wait_connected()

    def _switch(self, kind: str, yes: bool) -> None:
        ways = {"hold up": (Way.UP,), "hold down": (Way.DOWN,)}.get(kind, BOTH)
        if kind.startswith("hold"):
            self.proxy.hold(yes, *ways)
        elif kind == "swallow":
            self.proxy.swallow(yes)
        else:
            self.proxy.refuse(yes)

    def _submit(self, number: int) -> None:
        """A short run, one that outlives the partition, and one that obeys nobody; wait until one of them is there."""
        made = []
        for index, fields in enumerate(({"pieces": 60}, {"pieces": 500}, {"pieces": 400, "deaf": True, "tail": True})):
            plan = truthful.plan(name=f"s{self.number}-{number}-{index}", **fields)
            loss = spec_pb2.LossPolicy(on_lost=spec_pb2.ON_LOST_RETRY, lost_after=seconds(LOST_AFTER_S))
            # Short pauses: a run that is lost in one partition after the other would wait for minutes.
            retry = spec_pb2.RetryPolicy(backoff=seconds(1), backoff_cap=seconds(1))
            argv = truthful.argv(self.recorder.place, plan)
            wanted = spec(argv, grace=seconds(GRACE_S), loss=loss, retry=retry)
            run = self.house.submit(wanted)
            self.recorder.submitted(run.id, [plan])
            for of in ("attempts", "signal", "lost"):
                self.recorder.excuse(run.id, of, "its runner is cut off for longer than lost_after")
            made.append(run.id)
        wait_for(lambda: {line["run"] for line in self.recorder.truth()} & set(made), what="one of them runs")


def test_partitions_never_make_two_of_one_run(figures: Figures, tmp_path: pathlib.Path) -> None:
    settings = {"heartbeat_shortest_s": HEARTBEAT_S, "loss_margin_s": MARGIN_S, "testing": True}
    with House(**settings) as house:
        recorder = Recorder(tmp_path / "history.jsonl", house.root / "truth", lost_after_s=LOST_AFTER_S)
        house.doors = house.client("", recorder)
        sites = [Site(house, number, recorder) for number in range(SITES)]
        try:
            with ThreadPoolExecutor(SITES) as threads:
                try:
                    for done in [threads.submit(site.partitions, EACH) for site in sites]:
                        done.result()
                finally:  # one that fails, or who is interrupted, does not wait for the rest
                    for site in sites:
                        site.halted = True
            figures.say(f"{len(recorder.plans)} runs; waiting until all of them have settled")
            for run in recorder.plans:
                wait_for(lambda run=run: house.get(run).HasField("settled_at"), what=f"{run} settles", timeout_s=180)
                recorder.read_logs(house.doors, run)
        finally:
            for site in sites:
                site.proxy.close()
        history = recorder.expect_whole(house)
    told = tally(history)
    partitions = sum((site.lengths for site in sites), collections.Counter[str]())
    ran_again = len({(line["run"], line["epoch"]) for line in history.of("truth")}) - len(recorder.plans)
    figures.say(f"{told}; {ran_again} attempts after a loss")
    note = ", ".join(f"{length}: {count}" for length, count in sorted(partitions.items()))
    enough = partitions.total() >= 50 and ran_again >= 10
    figures.record(
        "overlaps, real partitions", told.overlaps, goal="0 of >= 50", ok=told.overlaps == 0 and enough,
        note=f"{partitions.total()} partitions ({note}), {ran_again} runs were tried again elsewhere or later",
    )  # fmt: skip
    false = told.false_confirmed
    figures.record("false kill_confirmed", false, goal="0", ok=not false, note=f"of {told.confirmed}, partitions")
