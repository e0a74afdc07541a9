"""At a terminal Ctrl-C asks what to do, and a log cannot steer the terminal."""

from __future__ import annotations

import pathlib

from banksman.v1 import run_pb2

from tests.scenarios.children import PATIENT, PAUSE, locked, python
from tests.scenarios.house import House
from tests.scenarios.terminal import Terminal

CTRL_C = b"\x03"


def following(house: House, *argv: str) -> Terminal:
    program, env = house.banksman()
    return Terminal([*program, "run", "exec", "--", *argv], {**env, "TERM": "xterm"}, house.root)


def test_ctrl_c_asks_and_c_cancels(shared: House, here: pathlib.Path) -> None:
    arrived, lock = shared.fifo(here / "arrived"), here / "lock"
    with following(shared, *python(PATIENT, lock, arrived.path)) as terminal:
        arrived.receive()
        terminal.type(CTRL_C)
        terminal.expect(b"etach")
        terminal.type(b"c\n")
        assert terminal.finish() == 7, terminal.seen
    assert b"CANCELLED" in terminal.seen
    assert not locked(lock)


def test_ctrl_c_asks_and_d_detaches(shared: House, here: pathlib.Path) -> None:
    arrived, gate = shared.fifo(here / "arrived"), shared.fifo(here / "gate")
    with following(shared, *python(PAUSE, here / "tally", arrived.path, gate.path)) as terminal:
        arrived.receive()
        run = shared.get("@last").id
        terminal.type(CTRL_C)
        terminal.expect(b"etach")
        terminal.type(b"d\n")
        assert terminal.finish() == 130, terminal.seen
    assert b"banksman run logs" in terminal.seen, "it says how to come back"
    gate.send()
    assert shared.wait(run).state == run_pb2.RUN_STATE_SUCCEEDED


def test_ctrl_c_twice_detaches(shared: House, here: pathlib.Path) -> None:
    arrived, gate = shared.fifo(here / "arrived"), shared.fifo(here / "gate")
    with following(shared, *python(PAUSE, here / "tally", arrived.path, gate.path)) as terminal:
        arrived.receive()
        run = shared.get("@last").id
        terminal.type(CTRL_C)
        terminal.expect(b"etach")
        terminal.type(CTRL_C)
        assert terminal.finish() == 130, terminal.seen
    assert shared.get(run).state == run_pb2.RUN_STATE_RUNNING
    gate.send()
    assert shared.wait(run).state == run_pb2.RUN_STATE_SUCCEEDED


def test_escape_sequences_of_a_log_do_not_reach_the_terminal(shared: House) -> None:
    text = r"printf 'a\033]0;owned\007b\033[2Jc\033[31mred\033[0md\n'"
    with following(shared, "/bin/sh", "-c", text) as terminal:
        assert terminal.finish() == 0, terminal.seen
    assert b"\x1b]0" not in terminal.seen
    assert b"\x1b[2J" not in terminal.seen
    assert b"abc" in terminal.seen
    assert b"owned" not in terminal.seen
    piped = shared.cli("run", "logs", "@last")
    assert b"\x1b]0;owned\x07b\x1b[2Jc" in piped.stdout, "off a terminal bytes are bytes"
