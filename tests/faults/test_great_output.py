"""One GiB from one run, and one line of 100 MiB: exact, in bounded memory on both sides."""

from __future__ import annotations

import hashlib
import threading
import time

from banksman.v1 import run_pb2

from tests.faults.figures import Recorder
from tests.scenarios.children import python
from tests.scenarios.faults import lock_holder
from tests.scenarios.house import House
from tests.scenarios.program import peak_mib
from tests.scenarios.specs import spec
from tests.scenarios.test_much_output import LINES, ODD, ONE_LINE, lines, log_digest

GIBIBYTE_IN_MIB = 1024
RSS_GOAL_MIB = 150
SHIM_GOAL_MIB = 64


class ShimPeak(threading.Thread):
    """Watches the memory of a run's shim until the run directory is gone."""

    def __init__(self, house: House, run: str) -> None:
        super().__init__(daemon=True)
        self._runs, self._run = house.root / "r0" / "runs", run
        self.mib = 0.0
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.2):
            for path in self._runs.glob(f"{self._run}.*"):
                try:
                    shim = lock_holder(path / "lock")
                    self.mib = max(self.mib, peak_mib(shim)) if shim else self.mib
                except (OSError, AssertionError):
                    continue  # it has just ended

    def stop(self) -> float:
        self._over.set()
        self.join()
        return self.mib


def test_one_gibibyte_from_one_run_arrives_exactly_in_bounded_memory(house: House, figures: Recorder) -> None:
    agent = house.agent("r1")
    began = time.monotonic()
    run = house.submit(spec(python(LINES, str(GIBIBYTE_IN_MIB)), log_limit_bytes=2 << 30))
    shim = ShimPeak(house, run.id)
    done = house.wait(run.id, timeout_s=240)
    seconds = time.monotonic() - began
    shim_mib = shim.stop()
    wanted = hashlib.sha256()
    for block in range(GIBIBYTE_IN_MIB * 4):
        wanted.update(lines(block))
    assert done.state == run_pb2.RUN_STATE_SUCCEEDED
    digest, size, gaps = log_digest(house, done.id)
    exact = (digest, size, gaps) == (wanted.hexdigest(), GIBIBYTE_IN_MIB << 20, 0)
    figures.record("1 GiB of one run: bytes wrong, lost or in gaps", 0 if exact else 1, goal="0", ok=exact,
                   note=f"{GIBIBYTE_IN_MIB / seconds:.0f} MiB/s")  # fmt: skip
    assert house.log_end(done.id).complete
    for name, mib, goal in (
        ("server", peak_mib(house.server.pid), RSS_GOAL_MIB),
        ("agent", peak_mib(agent.pid), RSS_GOAL_MIB),
        ("shim", shim_mib, SHIM_GOAL_MIB),
    ):
        figures.record(f"1 GiB of one run: peak RSS of the {name}", mib, unit="MiB", goal=f"<= {goal}", ok=mib <= goal)


def test_one_line_of_a_hundred_mebibytes_arrives_exactly(house: House, figures: Recorder) -> None:
    agent = house.agent("r1")
    (house.root / "odd").write_bytes(ODD)
    done = house.execute(spec(python(ONE_LINE, "100", house.root / "odd")))
    wanted = hashlib.sha256()
    for _ in range(100):
        wanted.update(b"a" * (1 << 20))
    wanted.update(ODD)
    exact = log_digest(house, done.id) == (wanted.hexdigest(), (100 << 20) + len(ODD), 0)
    worst = max(peak_mib(house.server.pid), peak_mib(agent.pid))
    figures.record("one line of 100 MiB: bytes wrong, lost or in gaps", 0 if exact else 1, goal="0", ok=exact,
                   note=f"peak RSS of server and agent {worst:.0f} MiB")  # fmt: skip
    assert exact
