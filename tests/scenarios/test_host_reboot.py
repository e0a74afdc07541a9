"""A reboot of the build host ends its runs as that, keeps their logs, and signals nobody of the new boot."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
from collections.abc import Iterator

import pytest
from banksman.v1 import run_pb2, spec_pb2

from runner_agent.shim import files
from tests.scenarios import odd_runner
from tests.scenarios.children import PAUSE, Fifo, lines, python
from tests.scenarios.faults import lock_holder
from tests.scenarios.house import Agent, House
from tests.scenarios.program import touching
from tests.scenarios.specs import spec

LAUNCHER = pathlib.Path(odd_runner.__file__).resolve()
NOISE = "import os\nfor number in range(3000): os.write(1, b'%06d ' % number + b'x' * 90 + b'\\n')\n"
WRITTEN = b"".join(b"%06d " % number + b"x" * 90 + b"\n" for number in range(3000)) + b"before\n"
RETRY = spec_pb2.LossPolicy(on_lost=spec_pb2.ON_LOST_RETRY)


class RebootingHost:
    """A runner whose host loses power and boots again."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.settings = house.root / "host.json"
        self.settings.write_text("{}")
        self.agent: Agent = house.agent("r1", start=False)
        self.agent.argv[1:3] = [str(LAUNCHER), str(self.settings)]
        self.agent.connect()

    @property
    def state(self) -> pathlib.Path:
        return self.house.root / "r0"

    def power_off(self) -> None:
        """Everything of the host is gone at once: agent, fork server, shims, children."""
        self.agent.kill_dash_nine()
        guards = {lock_holder(self.state / "fork.lock")}
        guards |= {lock_holder(path / "lock") for path in (self.state / "runs").iterdir()}
        for pid in sorted(pid for pid in guards if pid):
            os.kill(pid, signal.SIGKILL)
        for pid in touching(self.house.root):
            if pid != self.house.server.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def boot(self, boot_id: str) -> None:
        self.settings.write_text(json.dumps({"boot_id": boot_id}))
        self.agent.connect()


@pytest.fixture
def host(house: House) -> RebootingHost:
    return RebootingHost(house)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the new boot that happens to have the pid of the old boot's child."""
    process = subprocess.Popen(["sleep", "1000"], cwd="/")
    yield process
    process.kill()
    process.wait()


def begin(host: RebootingHost, name: str, **fields: object) -> tuple[run_pb2.Run, Fifo, pathlib.Path]:
    """A run that has written its noise and waits."""
    arrived, gate, tally = host.house.fifo(f"{name}.a"), host.house.fifo(f"{name}.g"), host.house.root / f"{name}.t"
    run = host.house.submit(spec(python(NOISE + PAUSE, tally, arrived.path, gate.path), **fields))
    arrived.receive()
    return run, gate, tally


def test_the_runs_of_a_rebooted_host_end_as_that_and_keep_their_logs(
    host: RebootingHost, bystander: subprocess.Popen[bytes]
) -> None:
    house = host.house
    run, _, _ = begin(host, "one")
    house.server.kill_dash_nine()  # so that the last of the log is on the host only
    host.power_off()
    identity = host.state / "runs" / f"{run.id}.1" / "identity"
    told = files.read_json(str(identity.parent), "identity")
    assert told is not None
    told |= {"pid": bystander.pid, "start_time": files.start_time(bystander.pid)}
    identity.write_bytes(files.encode_json(told))
    house.start_server()
    host.boot("the next boot")
    done = house.wait(run.id)
    assert (done.state, done.reason) == (run_pb2.RUN_STATE_LOST, run_pb2.REASON_HOST_REBOOTED)
    assert done.kill_confirmed, "nothing outlives a boot"
    assert house.log(run.id) == WRITTEN
    assert bystander.poll() is None, "a process of this boot was signalled"
    runner = host.agent.runner()
    assert runner is not None
    assert runner.boot_id == "the next boot"


def test_only_a_run_that_may_be_retried_runs_again(host: RebootingHost) -> None:
    house = host.house
    once, _, tally_once = begin(host, "once")
    again, gate, tally_again = begin(host, "again", loss=RETRY)
    host.power_off()
    host.boot("the next boot")
    gate.send()
    assert house.wait(once.id).reason == run_pb2.REASON_HOST_REBOOTED
    done = house.wait(again.id)
    assert (done.state, len(done.attempts)) == (run_pb2.RUN_STATE_SUCCEEDED, 2)
    assert done.attempts[-1].reason == run_pb2.REASON_HOST_REBOOTED
    assert (len(lines(tally_once)), len(lines(tally_again))) == (1, 2)


def test_a_boot_id_in_hello_alone_ends_nothing(host: RebootingHost) -> None:
    """As from a clone on another host: what is still guarded by its shim lives on."""
    house = host.house
    run, gate, _ = begin(host, "one")
    host.agent.kill_dash_nine()
    host.boot("somebody else's boot")
    assert house.get(run.id).state == run_pb2.RUN_STATE_RUNNING
    gate.send()
    done = house.wait(run.id)
    assert (done.state, len(done.attempts)) == (run_pb2.RUN_STATE_SUCCEEDED, 1)
    assert house.log(run.id) == WRITTEN + b"after\n"
