"""The program's own command line: version, check, and mistakes in one sentence."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.agent.program import AGENT


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*AGENT, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
    )


def test_version() -> None:
    done = run("version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "banksman-runner")


def test_check_says_what_it_found(tmp_path: Path) -> None:
    done = run("check", "--state-dir", str(tmp_path / "s"), "--slots", "2")
    assert done.returncode == 0
    for line in (
        "state directory",
        "cgroup",
        "user isolation",
        "KillMode",
        "slots            2",
        "enrolled         no",
    ):
        assert line in done.stdout
    assert not (tmp_path / "s").exists(), "it only looks"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--slots", "none"), "--slots 'none' is not a whole number"),
        (("run", "--label", "x"), "is not KEY=VALUE"),
        (("run", "--server", "http://192.0.2.1:7070"), "--insecure"),
        (("run", "--server", "ftp://x"), "is not http://host:port"),
        (("run", "--server", "http://127.0.0.1:notaport"), "no usable port"),
        (("run", "--config", "/no/such/file"), "cannot be read"),
        (("run", "--no-such-flag"), "unrecognized arguments"),
        (("walk",), "invalid choice"),
        ((), "required"),
    ],
)
def test_mistakes_are_told_in_a_sentence(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    flags = ("--state-dir", str(tmp_path / "s")) if arguments[:1] == ("run",) else ()
    done = run(*arguments, *flags)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_state_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("run", "--state-dir", str(tmp_path / "file" / "s"))
    assert done.returncode == 1
    assert "cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_package_sets_the_fork_switch_before_grpc_is_imported() -> None:
    code = "import runner_agent, os, sys; print(os.environ['GRPC_ENABLE_FORK_SUPPORT'], 'grpc' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    done = subprocess.run(
        [AGENT[0], "-c", code], capture_output=True, text=True, check=True, env=environment, timeout=60
    )
    assert done.stdout.split() == ["0", "False"]
