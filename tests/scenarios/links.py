"""Runs and runners behind a proxy: what the tests of bad networks share."""

from __future__ import annotations

import json
import os
import random
import time

from banksman.v1 import run_pb2, spec_pb2

from tests.history import truthful
from tests.scenarios.children import lines, python
from tests.scenarios.house import Agent, House
from tests.scenarios.proxy import Proxy
from tests.scenarios.specs import seconds
from tests.waiting import wait_for

# argv: seed, bytes, piece bytes, arrived, gate, more bytes. Writes, says so, waits for the gate, writes more, exits: 3.
FLOOD = """
import os, random, sys
chance, left, piece = random.Random(int(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
def put(count):
    data = chance.randbytes(count)
    while data:
        data = data[os.write(1, data[:piece]):]
put(left)
with open(sys.argv[4], "wb", 0) as file:
    file.write(b"%d\\n" % os.getpid())
with open(sys.argv[5], "rb", 0) as file:
    file.readline() or sys.exit(99)
put(int(sys.argv[6]))
sys.exit(3)
"""


def last(period_s: float) -> None:
    """Let a fault last so long: its length is the very thing that is tested."""
    end_s = time.monotonic() + period_s
    wait_for(lambda: time.monotonic() >= end_s, what="time goes on", timeout_s=period_s + 30)


def behind(house: House, proxy: Proxy, name: str = "r1", *, slots: int = 4) -> Agent:
    """A connected runner that reaches the control plane through the proxy alone."""
    agent = house.agent(name, slots=slots, start=False)
    agent.argv[agent.argv.index("--server") + 1] = f"http://127.0.0.1:{proxy.port}"
    agent.connect()
    return agent


def epoch_of(agent: Agent) -> int:
    runner = agent.runner()
    assert runner is not None
    return runner.session_epoch


def wait_disconnected(agent: Agent, *, timeout_s: float = 45.0) -> None:
    def away() -> bool:
        runner = agent.runner()
        return runner is not None and not runner.connected and runner.HasField("disconnected_since")

    wait_for(away, what=f"{agent.name} is shown disconnected", timeout_s=timeout_s)


def loss(lost_after_s: float, *, retry: bool = False) -> spec_pb2.LossPolicy:
    kind = spec_pb2.ON_LOST_RETRY if retry else spec_pb2.ON_LOST_FAIL
    return spec_pb2.LossPolicy(on_lost=kind, lost_after=seconds(lost_after_s))


class Flood:
    """A run that writes `size` bytes of noise and waits for its gate, to write `more` bytes and exit with 3."""

    def __init__(
        self, house: House, size: int, *, more: int = 1000, seed: int = 1, piece: int = 10_000, **fields: object
    ) -> None:
        chance = random.Random(seed)
        self.written = chance.randbytes(size) + chance.randbytes(more)
        self.house = house
        number = len(os.listdir(house.root))
        self.arrived, self.gate = house.fifo(f"arrived{number}"), house.fifo(f"gate{number}")
        argv = python(FLOOD, str(seed), str(size), str(piece), self.arrived.path, self.gate.path, str(more))
        step = spec_pb2.Step(kind=spec_pb2.STEP_KIND_MAIN, command=spec_pb2.Command(argv=argv))
        self.id = house.submit(spec_pb2.RunSpec(steps=[step], **fields)).id  # type: ignore[arg-type]

    def pid(self) -> int:
        """Once it has written its first part."""
        return int(self.arrived.receive(60))

    def expect_a_whole_end(self, *, timeout_s: float = 60.0) -> run_pb2.Run:
        """Exit code 3, one attempt, and a log that is identical to what was written, without a gap."""
        run = self.house.wait(self.id, timeout_s=timeout_s)
        tried = [attempt for attempt in run.attempts if attempt.state != run_pb2.ATTEMPT_STATE_REJECTED]
        assert (run.state, run.exit_code, len(tried)) == (run_pb2.RUN_STATE_FAILED, 3, 1), run
        assert run.kill_confirmed
        assert not tried[0].gaps
        assert tried[0].log_complete
        assert self.house.log(self.id) == self.written
        return run


class Truthful:
    """A run whose processes tell what they do, under which fence, and whether two of them ever lived at once."""

    def __init__(self, house: House, name: str, count: int, **fields: object) -> None:
        self.place, self.name = house.root / "truth", name
        self.place.mkdir(exist_ok=True)
        argv = truthful.argv(self.place, truthful.plan(name=name, pieces=count))
        step = spec_pb2.Step(kind=spec_pb2.STEP_KIND_MAIN, command=spec_pb2.Command(argv=argv))
        self.id = house.submit(spec_pb2.RunSpec(steps=[step], **fields)).id  # type: ignore[arg-type]

    def alive(self) -> list[str]:
        """Locks that its processes hold."""
        return truthful.alive(self.place, self.id)

    def said(self, *words: str) -> list[list[str]]:
        """What its processes said, as [word, name, step, epoch]."""
        told = [json.loads(line) for line in lines(self.place / "truth")]
        mine = [item for item in told if item["run"] == self.id and item["word"] in words]
        return [[item["word"], self.name, str(item["step"]), str(item["epoch"])] for item in mine]

    def wait_started(self, times: int = 1) -> None:
        wait_for(lambda: len(self.said("start")) >= times, what=f"{self.name} starts", timeout_s=60)
