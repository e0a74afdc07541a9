"""A runner whose disk is full, or may not be written: the child never waits, the end is known, the operator is told."""

from __future__ import annotations

import signal
import subprocess

from banksman.v1 import log_pb2, run_pb2

from tests.faults.root.hosts import small_disk
from tests.scenarios.children import Fifo, python
from tests.scenarios.house import House
from tests.scenarios.specs import spec
from tests.waiting import wait_for

DISK_BYTES = 24 << 20
# argv: MiB, arrived. Numbered lines of 1 KiB, and then it says that it was not held up.
MUCH = """
import os, sys
for number in range(int(sys.argv[1]) << 10):
    os.write(1, b"%010d" % number + b"y" * 1013 + b"\\n")
with open(sys.argv[2], "wb", 0) as file:
    file.write(b"done\\n")
"""


def line(number: int) -> bytes:
    return b"%010d" % number + b"y" * 1013 + b"\n"


def test_a_full_disk_costs_the_middle_of_the_log_and_nothing_else(house: House) -> None:
    with small_disk(house.root / "r0", DISK_BYTES):
        agent = house.agent("r1", start=False)
        agent.argv += ["--min-disk-free-bytes", "0"]
        agent.connect()
        before = house.execute(spec(["/bin/echo", "before"]))
        assert before.state == run_pb2.RUN_STATE_SUCCEEDED
        done_writing: Fifo = house.fifo("done")
        run = house.submit(spec(python(MUCH, "96", done_writing.path)))
        house.wait_state(run.id, run_pb2.RUN_STATE_RUNNING)
        house.server.send(signal.SIGSTOP)  # nobody fetches anything
        try:
            assert done_writing.receive() == "done"
            exits = house.root / "r0" / "runs"
            wait_for(lambda: [*exits.glob(f"{run.id}.*/exit")], what="the exit record, on a full disk")
        finally:
            house.server.send(signal.SIGCONT)
        done = house.wait(run.id)
        assert (done.state, done.exit_code, done.kill_confirmed) == (run_pb2.RUN_STATE_SUCCEEDED, 0, True)
        whole = b"".join(line(number) for number in range(96 << 10))
        offset, gaps = 0, 0
        for answer in house.batches(run.id):
            for record in answer.batch.records:
                assert record.kind == log_pb2.LOG_KIND_SYSTEM or whole.startswith(record.data, offset)
                offset += len(record.data) + record.gap_bytes
                gaps += record.gap_bytes
        assert offset == len(whole) == done.attempts[0].log_bytes
        assert gaps > 0
        assert house.log_end(run.id).complete, "every missing byte is covered by a gap record"
        assert house.execute(spec(["/bin/true"])).state == run_pb2.RUN_STATE_SUCCEEDED, "there is room again"


def test_an_agent_whose_state_directory_is_read_only_says_so_and_what_to_do(house: House) -> None:
    place = house.root / "r0"
    with small_disk(place, DISK_BYTES):
        agent = house.agent("r1", start=False)
        agent.argv += ["--min-disk-free-bytes", "0"]
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        agent.start()
        assert agent.wait() == 1
        said = agent.said()
        assert str(place) in said, said
        assert "Read-only file system" in said
        assert "--state-dir" in said, "the way out is named"
        assert "Traceback" not in said
        subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
        agent.connect()
        assert house.execute(spec(["/bin/true"])).state == run_pb2.RUN_STATE_SUCCEEDED
