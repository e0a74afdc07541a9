"""`banksman dev`: one command, a control plane and a runner; Ctrl-C, and both are gone."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from tests.scenarios.program import Program, end_all, environment, touching
from tests.waiting import wait_for

BANKSMAN = str(pathlib.Path(sys.executable).parent / "banksman")


@pytest.fixture
def place() -> Iterator[pathlib.Path]:
    root = pathlib.Path(tempfile.mkdtemp(prefix="bnk-", dir="/tmp"))
    yield root
    end_all(root)
    shutil.rmtree(root, ignore_errors=True)


def started(place: pathlib.Path) -> Program:
    """`banksman dev`, once it can run something."""
    program = Program("dev", [BANKSMAN, "dev", "--state-dir", str(place / "state"), "--listen", "127.0.0.1:0"], place)
    program.start()
    try:

        def connected() -> bool:
            program.expect_running()
            return b"true" in banksman(place, "runner", "list", "-o", "json").stdout

        wait_for(connected, what="its runner is connected", timeout_s=60)
    except BaseException:
        program.kill_dash_nine()
        raise
    return program


def banksman(place: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    env = environment(place, {"BANKSMAN_STATE_DIR": str(place / "state")})
    return subprocess.run([BANKSMAN, *arguments], env=env, cwd=place, capture_output=True, timeout=60, check=False)


def test_dev_runs_things_stops_on_ctrl_c_and_keeps_what_was(place: pathlib.Path) -> None:
    dev = started(place)
    done = banksman(place, "run", "exec", "--", "/bin/echo", "hello")
    assert (done.returncode, done.stdout) == (0, b"hello\n"), done.stderr
    assert "banksman run exec" in dev.said(), "it says how to use it"
    dev.send(signal.SIGINT)
    assert dev.wait() == 0, dev.said()
    assert touching(place) == []
    again = started(place)
    assert banksman(place, "run", "logs", "@last").stdout == b"hello\n"
    assert banksman(place, "run", "exec", "--", "/bin/true").returncode == 0
    assert again.stop() == 0, again.said()
    assert touching(place) == []


def test_dev_does_not_outlive_a_server_that_dies(place: pathlib.Path) -> None:

    dev = started(place)
    admin = next((place / "state").rglob("admin.json"))
    os.kill(json.loads(admin.read_text())["pid"], signal.SIGKILL)
    assert dev.wait() != 0, dev.said()
    assert touching(place) == []
