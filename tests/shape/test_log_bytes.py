"""What a log byte costs: how often it is read and written, what goes over the wire, and how many pieces it is in."""

from __future__ import annotations

import pathlib
from collections import Counter
from dataclasses import dataclass

import pytest

from tests.scenarios.children import python
from tests.scenarios.house import House
from tests.scenarios.program import touching
from tests.scenarios.specs import spec
from tests.shape.house import CountingHouse
from tests.waiting import wait_for

SIZE = 16_000_000
MEBIBYTES = SIZE / (1 << 20)
# Prints lines of 100 bytes as fast as it can, and waits.
PRINTER = """
import os, sys
block, left = (b"x" * 99 + b"\\n") * 600, int(sys.argv[1])
while left:
    left -= os.write(1, block[:left])
open(sys.argv[2]).readline()
"""
# Through the kernel, for each byte of the log: (read, written). Sockets are not in it. One way more would be 1 more;
# the room above is for what else a program reads and writes meanwhile.
MOVED = {"shim": (1.05, 1.05), "agent": (1.25, 0.05), "server": (0.25, 1.25)}
SENT = 1.1  # over the wire
CHUNKS = 12  # messages for each MiB: of 256 KiB, once the credit allows it
RECORDS = 28  # pieces for each MiB, where there are 10,486 lines
# For each MiB; 16 would be each message alone. A batch takes what has come while the one before it was synced.
SYNCS = 12


@dataclass(frozen=True, slots=True)
class Flow:
    """Bytes that each program read and wrote, and what else was counted."""

    moved: dict[str, tuple[int, int]]
    found: Counter[str]


def moved(pid: int) -> tuple[int, int]:
    """Bytes that a process has read and written so far, as the kernel counts system calls."""
    lines = pathlib.Path(f"/proc/{pid}/io").read_text().splitlines()
    values = {name: int(value) for name, value in (line.split(": ") for line in lines)}
    return values["rchar"], values["wchar"]


def shims(house: House) -> list[int]:
    """The processes above the runs; the one that has read most is the shim of what printed."""
    return [
        pid
        for pid in touching(house.root / "r0")
        if b"fork_server" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


@pytest.fixture(scope="module")
def flow() -> Flow:
    with CountingHouse() as house:
        agent = house.agent("a")
        house.execute(spec(["/bin/true"]))
        gate, pids = house.fifo("gate"), {"agent": agent.pid, "server": house.server.pid}
        before = {name: moved(pid) for name, pid in pids.items()}
        with house.counting() as found:
            run = house.submit(spec(python(PRINTER, str(SIZE), gate))).id
            # Nobody reads the log: that would be counted too.
            wait_for(lambda: house.tally.now()["server.acked"] >= SIZE, what="all is stored")
            after = {name: moved(pid) for name, pid in pids.items()}
            after["shim"], before["shim"] = max(moved(pid) for pid in shims(house)), (0, 0)
            gate.send()
            assert house.wait(run).attempts[0].log_bytes == SIZE
    differences = {name: (read - before[name][0], written - before[name][1]) for name, (read, written) in after.items()}
    return Flow(differences, found)


@pytest.mark.parametrize("program", MOVED)
def test_a_byte_is_moved_so_often(flow: Flow, program: str) -> None:
    read, written = flow.moved[program]
    most_read, most_written = MOVED[program]
    assert read <= most_read * SIZE
    assert written <= most_written * SIZE


def test_a_byte_goes_over_the_wire_once(flow: Flow) -> None:
    assert SIZE <= flow.found["agent.bytes log_chunk"] <= SENT * SIZE


def test_nothing_is_done_by_line(flow: Flow) -> None:
    assert flow.found["agent.said log_chunk"] <= CHUNKS * MEBIBYTES
    assert flow.found["agent.records"] <= RECORDS * MEBIBYTES


def test_many_bytes_share_a_sync(flow: Flow) -> None:
    assert flow.found["server.sync"] <= SYNCS * MEBIBYTES
    assert flow.found["server.said log_ack"] <= SYNCS * MEBIBYTES
