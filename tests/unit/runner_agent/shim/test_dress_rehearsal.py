"""Before its first fork a fork server plays real attempts, and nothing of them is left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import runner_agent

ROOT = str(Path(runner_agent.__file__).parent.parent)

_PLAY = f"""
import os, signal, sys
sys.path.append({ROOT!r})
from runner_agent.shim import dress_rehearsal, tree
dress_rehearsal.SYNC_S = 1e9
played = []
serve = dress_rehearsal.wait_and_serve
def counted(*arguments):
    serve(*arguments)
    played.append(sorted(os.listdir(".")))
dress_rehearsal.wait_and_serve = counted
before = dress_rehearsal._descriptors()
dress_rehearsal.rehearse_dressed(use_cgroups=False)
assert dress_rehearsal._descriptors() == before
assert not tree.has_children()
assert signal.set_wakeup_fd(-1) == -1
assert os.getcwd() == sys.argv[1]
print(played[-1] if played else "", len(set(map(tuple, played))), len(played) <= dress_rehearsal.ROUNDS)
"""


def played_in(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", "-c", _PLAY, str(directory)]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def test_real_attempts_are_played_and_nothing_is_left(tmp_path: Path) -> None:
    done = played_in(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['exit', 'identity', 'lock', 'spool.0'] 1 True"
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_one_has_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "rehearsal" / "runs" / "attempt"
    left.mkdir(parents=True)
    (left / "exit").write_text("{}")
    done = played_in(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("['exit', 'identity', 'lock', 'spool.0'] 1 ")
    assert list(tmp_path.iterdir()) == []


def test_one_that_cannot_be_played_is_not_played(tmp_path: Path) -> None:
    (tmp_path / "rehearsal").write_text("in the way")
    done = played_in(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the rehearsal failed" in done.stderr
    assert done.stdout.strip() == "0 True"


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("dress_rehearsal.SYNC_S = -1.0", ""),
        ("dress_rehearsal._play = lambda home, *, use_cgroups: {}['a mistake']", "the rehearsal failed"),
    ],
    ids=["a slow disk", "a mistake of ours"],
)
def test_no_fork_server_is_lost_for_it(tmp_path: Path, broken: str, said: str) -> None:
    program = _PLAY.replace("before =", f"{broken}\nbefore =", 1)
    command = [sys.executable, "-I", "-S", "-c", program, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert said in done.stderr
    assert done.stdout.strip() == "0 True"
    assert list(tmp_path.iterdir()) == []


_COUNT = f"""
import sys
sys.path.append({ROOT!r})
from runner_agent.shim import dress_rehearsal
dress_rehearsal.SYNC_S = 1e9
play, made, distinct = dress_rehearsal._play, [], set()
def profile(frame, event, _):
    if event == "call":
        made.append(1)
        distinct.add(frame.f_code)
def counted(home, *, use_cgroups):
    made.clear()
    distinct.clear()
    sys.setprofile(profile)
    try:
        return play(home, use_cgroups=use_cgroups)
    finally:
        sys.setprofile(None)
dress_rehearsal._play = counted
dress_rehearsal.rehearse_dressed(use_cgroups=False)
print(len(made), len(distinct))
"""


def test_an_attempt_takes_so_many_calls_and_no_more(tmp_path: Path) -> None:
    """Each function that is called costs a shim copies of the pages that it lies on, beside its time."""
    command = [sys.executable, "-I", "-S", "-c", _COUNT]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    calls, functions = map(int, done.stdout.split())
    # Some 650 calls of 260 functions when this was written; each turn of the loop takes about 25.
    assert calls <= 800
    assert functions <= 275
