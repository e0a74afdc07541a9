"""A small disk of the server's own: really full, and really read-only."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from banksman.v1 import run_pb2

from tests.scenarios.house import House
from tests.scenarios.links import Flood, epoch_of
from tests.scenarios.program import Program
from tests.scenarios.specs import spec
from tests.waiting import wait_for

SIZE_MIB = 24
RESERVE_BYTES = 1 << 20


@contextmanager
def small_disk() -> Iterator[House]:
    """A house whose server keeps its state on a tmpfs of 24 MiB."""
    with House(disk_reserve_bytes=RESERVE_BYTES) as house:
        house.server.stop()
        place = str(house.server_directory)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m,mode=700", "tmpfs", place], check=True)
        try:
            house.start_server()
            house.doors = house.client()
            yield house
        finally:
            house.server.kill_dash_nine()
            subprocess.run(["umount", "--lazy", place], check=True)


def fill(directory: pathlib.Path) -> pathlib.Path:
    """A file that takes what is left, to the last byte."""
    path = directory / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return path


def submit_until_refused(house: House) -> None:
    for _ in range(50):
        house.submit(spec(["/bin/true", os.urandom(40_000).hex()]))


def test_a_disk_that_is_full_acknowledges_nothing_and_heals_by_itself() -> None:
    with small_disk() as house:
        agent = house.agent("r1")
        run = Flood(house, 100_000, more=2_000_000)
        run.pid()
        epoch, pid = epoch_of(agent), house.server.pid
        filler = fill(house.server_directory)
        run.gate.send()
        with pytest.raises(grpc.RpcError) as refused:
            submit_until_refused(house)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        wait_for(lambda: "nothing is acknowledged" in house.server.said(100_000), what="logs are not taken in")
        assert run.written.startswith(house.log(run.id))
        filler.unlink()
        run.expect_a_whole_end()
        assert house.execute(spec(["/bin/true"])).state == run_pb2.RUN_STATE_SUCCEEDED
        assert (epoch_of(agent), house.server.pid) == (epoch, pid)


def test_a_disk_that_is_read_only_is_refused_at_the_start() -> None:
    with small_disk() as house:
        house.server.stop()
        subprocess.run(["mount", "-o", "remount,ro", str(house.server_directory)], check=True)
        program = Program("refused", house.server.argv, house.root)
        program.start()
        assert program.wait() == 1
        assert "cannot be used" in program.said()
        assert "Traceback" not in program.said()
        subprocess.run(["mount", "-o", "remount,rw", str(house.server_directory)], check=True)
        house.start_server()
