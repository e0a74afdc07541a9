"""What damage to a runner's files does: it is told, it gives no wrong byte, and nothing else suffers."""

from __future__ import annotations

import pathlib
import re
import shutil
from collections.abc import Callable

from banksman.v1 import run_pb2

from runner_agent.shim import files
from tests.scenarios.children import Fifo, python
from tests.scenarios.house import Agent, House
from tests.scenarios.specs import spec
from tests.waiting import wait_for

# argv: arrived, gate. Says so, waits, and writes much.
LATE_NOISE = """
import os, sys
os.write(1, b"before\\n")
with open(sys.argv[1], "wb", 0) as file:
    file.write(b"here\\n")
with open(sys.argv[2], "rb", 0) as file:
    file.readline() or sys.exit(99)
for number in range(3000):
    os.write(1, b"%06d " % number + b"x" * 92 + b"\\n")
"""
ENDED = b"before\n" + b"".join(b"%06d " % number + b"x" * 92 + b"\n" for number in range(3000))
Damage = Callable[[pathlib.Path], None]


def flip(path: pathlib.Path, at: float) -> None:
    """One bit, so far into the file."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 0x10
    path.write_bytes(data)


def truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def become_a_directory(path: pathlib.Path) -> None:
    path.unlink()
    path.mkdir()


SPOOL_DAMAGES: dict[str, Damage] = {
    "head flipped": lambda path: flip(path, 0.0),
    "middle flipped": lambda path: flip(path, 0.5),
    "truncated": truncate,
    "emptied": lambda path: path.write_bytes(b""),
    "gone": pathlib.Path.unlink,
    "no file": become_a_directory,
}


def begin(house: House, name: str) -> tuple[run_pb2.Run, Fifo, pathlib.Path]:
    """A run that has written much and waits; the gate; its directory on the host."""
    arrived, gate = house.fifo(f"{name}.a"), house.fifo(f"{name}.g")
    run = house.submit(spec(python(LATE_NOISE, arrived.path, gate.path)))
    arrived.receive()
    return run, gate, house.root / "r0" / "runs" / f"{run.id}.1"


def end_apart(house: House, agent: Agent, names: list[str]) -> dict[str, tuple[run_pb2.Run, pathlib.Path]]:
    """Runs that end while neither agent nor server lives: their logs are only on the host."""
    begun = {name: begin(house, name) for name in names}
    agent.kill_dash_nine()
    house.server.kill_dash_nine()
    for _, gate, directory in begun.values():
        gate.send()
        wait_for((directory / "exit").exists, what="the exit record")
    return {name: (run, directory) for name, (run, _, directory) in begun.items()}


def pieces(house: House, run: str) -> list[tuple[int, bytes, int]]:
    """(offset, bytes, length of a gap) of a log in order."""
    found, offset = [], 0
    for answer in house.batches(run):
        for record in answer.batch.records:
            found.append((offset, record.data, record.gap_bytes))
            offset += len(record.data) + record.gap_bytes
    return found


def test_a_damaged_spool_leaves_gaps_and_never_a_wrong_byte(house: House) -> None:
    agent = house.agent("r1", slots=8)
    ended = end_apart(house, agent, [*SPOOL_DAMAGES, "whole"])
    held = {name: house_log_bytes(directory) for name, (_, directory) in ended.items()}
    assert min(held.values()) >= len(ENDED)
    for name, damage in SPOOL_DAMAGES.items():
        damage(ended[name][1] / "spool.0")
    house.start_server()
    agent.connect()
    for name, (run, _) in ended.items():
        done = house.wait(run.id)
        assert (done.state, done.exit_code, done.kill_confirmed) == (run_pb2.RUN_STATE_SUCCEEDED, 0, True), name
        log = pieces(house, run.id)
        assert all(data == ENDED[at : at + len(data)] for at, data, _ in log), name
        assert sum(len(data) + gap for _, data, gap in log) == len(ENDED), name
        end = house.log_end(run.id)
        if name == "whole":
            assert (end.complete, house.log(run.id)) == (True, ENDED)
        else:
            assert any(gap for _, _, gap in log) or not end.complete, f"{name}: nothing tells what is missing"
            assert len(house.log(run.id)) < len(ENDED)


def house_log_bytes(directory: pathlib.Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("spool.*"))


def test_a_spool_that_is_damaged_under_a_living_shim_ends_as_a_log_with_a_gap(house: House) -> None:
    agent = house.agent("r1")
    run, gate, directory = begin(house, "one")
    wait_for((directory / "spool.0").exists, what="the spool")
    agent.kill_dash_nine()
    with (directory / "spool.0").open("r+b") as file:  # the same file that the shim appends to
        file.write(b"\0" * 40)
    agent.connect()
    gate.send()
    done = house.wait(run.id)
    assert (done.state, done.exit_code) == (run_pb2.RUN_STATE_SUCCEEDED, 0)
    assert all(data == ENDED[at : at + len(data)] for at, data, _ in pieces(house, run.id))


RECORDS = ("accept", "exit", "identity")
RECORD_DAMAGES: dict[str, Damage] = {
    "garbage": lambda path: path.write_bytes(b"\xff{garbage"),
    "flipped": lambda path: flip(path, 0.6),
    "no file": become_a_directory,
}


def test_a_record_that_cannot_be_read_is_set_aside_and_told(house: House) -> None:
    agent = house.agent("r1", slots=16)
    cases = {f"{name} {kind}": (name, kind) for name in RECORDS for kind in RECORD_DAMAGES}
    ended = end_apart(house, agent, [*cases, "whole"])
    for case, (name, kind) in cases.items():
        if name == "accept":  # which is there only for what is not the usual
            files.write_once(str(ended[case][1]), name, files.encode_json({"version": 1, "details": {"slots": 2}}))
        RECORD_DAMAGES[kind](ended[case][1] / name)
    house.start_server()
    agent.connect()
    whole = house.wait(ended["whole"][0].id)
    assert (whole.state, house.log(whole.id)) == (run_pb2.RUN_STATE_SUCCEEDED, ENDED)
    agent.kill_dash_nine()
    agent.connect()  # it starts again and again with what it cannot read
    assert house.execute(spec(["/bin/true"])).state == run_pb2.RUN_STATE_SUCCEEDED
    told = runner_get(house)
    for case, (name, _) in cases.items():
        run, directory = ended[case]
        if name == "identity":  # the exit record tells all that is needed
            assert house.wait(run.id).state == run_pb2.RUN_STATE_SUCCEEDED, case
            assert house.log(run.id) == ENDED
            continue
        now = house.get(run.id)
        assert now.state == run_pb2.RUN_STATE_RUNNING, f"{case}: nobody knows how it ended"
        assert now.attempts[0].log_digest == "", f"{case}: its log was sealed under it"
        assert run.id in told, f"{case}: `runner get` does not name it:\n{told}"
        aside = house.root / "r0" / "runs" / "quarantine" / directory.name
        assert aside.exists() or directory.exists(), "what may be evidence is kept"


def runner_get(house: House) -> str:
    """All that `runner get` says."""
    done = house.cli("runner", "get", "r1")
    return (done.stdout + done.stderr).decode()


def test_what_does_not_belong_among_the_runs_is_left_alone_and_named(house: House) -> None:
    agent = house.agent("r1")
    runs = house.root / "r0" / "runs"
    agent.stop()
    for name in ("backup.2", "a note", "§.9"):
        (runs / name).mkdir()
        (runs / name / "precious").write_text("mine")
    (runs / "stray").write_text("mine")
    for _ in range(2):
        agent.connect()
        assert house.execute(spec(["/bin/true"])).state == run_pb2.RUN_STATE_SUCCEEDED
        told = runner_get(house)
        assert "a note" in told, told
        agent.stop()
    kept = [*house.root.rglob("precious")]
    assert len(kept) == 3
    assert all(path.read_text() == "mine" for path in kept)


def test_a_run_directory_that_vanishes_under_its_shim_is_told(house: House) -> None:
    agent = house.agent("r1")
    run, _, directory = begin(house, "one")
    other, other_gate, _ = begin(house, "two")
    shutil.rmtree(directory)
    other_gate.send()
    assert house.wait(other.id).state == run_pb2.RUN_STATE_SUCCEEDED
    house.cancel(run.id)
    done = house.wait(run.id)
    assert (done.state, done.kill_confirmed) == (run_pb2.RUN_STATE_CANCELLED, True)
    assert not _python_of(house, "one.g")
    assert done.attempts[0].log_bytes >= len(b"before\n"), "what it wrote is known"
    agent.expect_running()
    assert house.execute(spec(["/bin/true"])).state == run_pb2.RUN_STATE_SUCCEEDED


def _python_of(house: House, word: str) -> list[str]:
    """Processes that name this word."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = entry.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f"{house.root}/{word}" in re.sub("\0", " ", text):
            found.append(entry.parent.name)
    return found
