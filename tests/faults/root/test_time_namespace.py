"""No monotonic instant outlives a boot: a host whose uptime jumps carries on with what it finds on its disk.

Suspend itself cannot be played: a namespace shifts CLOCK_MONOTONIC and CLOCK_BOOTTIME together and at once, it does not
let one of them pass while processes sleep. What is shown here is that nothing on disk is an instant of these clocks.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal

import pytest
from banksman.v1 import run_pb2

from tests.faults.root.hosts import wrapped
from tests.scenarios import odd_runner
from tests.scenarios.children import PAUSE, lines, python
from tests.scenarios.faults import lock_holder
from tests.scenarios.house import House
from tests.scenarios.program import touching
from tests.scenarios.specs import seconds, spec

DAY_S = 86_400


@pytest.mark.parametrize("later_s", [30 * DAY_S, 0], ids=["30 days up", "freshly up"])
def test_a_run_of_the_boot_before_is_judged_by_no_clock_of_that_boot(house: House, later_s: int) -> None:
    """Begun on a host that is up for 15 days, found by one that is up for longer, or for less."""
    settings = house.root / "host.json"
    settings.write_text("{}")
    agent = house.agent("r1", start=False)
    agent.argv[1:3] = [str(pathlib.Path(odd_runner.__file__).resolve()), str(settings)]
    plain = list(agent.argv)
    wrapped(agent, *up_since(15 * DAY_S))
    agent.connect()
    arrived, gate, tally = house.fifo("arrived"), house.fifo("gate"), house.root / "tally"
    run = house.submit(spec(python(PAUSE, tally, arrived.path, gate.path), timeout=seconds(3600)))
    arrived.receive()
    power_off(house)
    settings.write_text(json.dumps({"boot_id": "the next boot"}))
    agent.argv[:] = plain
    wrapped(agent, *up_since(later_s))
    agent.connect()
    done = house.wait(run.id)
    assert (done.state, done.reason) == (run_pb2.RUN_STATE_LOST, run_pb2.REASON_HOST_REBOOTED)
    assert house.log(run.id) == b"before\n"
    short = house.execute(spec(["/bin/sleep", "1000"], timeout=seconds(1), grace=seconds(0.2)))
    assert (short.state, short.kill_confirmed) == (run_pb2.RUN_STATE_TIMED_OUT, True), "its own clocks go right"
    assert len(lines(tally)) == 1


def up_since(seconds_: int) -> list[str]:
    """A time namespace whose clocks are so far ahead."""
    return ["unshare", "--time", "--fork", "--kill-child", f"--boottime={seconds_}", f"--monotonic={seconds_}"]


def power_off(house: House) -> None:
    """Everything but the server is gone at once."""
    state = house.root / "r0"
    guards = {lock_holder(state / "agent.lock"), lock_holder(state / "fork.lock")}
    guards |= {lock_holder(path / "lock") for path in (state / "runs").iterdir()}
    for pid in (*filter(None, guards), *touching(house.root)):
        if pid != house.server.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    house.agents["r1"].wait()
