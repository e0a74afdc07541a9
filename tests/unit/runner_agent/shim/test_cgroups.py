"""Where our cgroups are, which kind a path is, and freeze, kill, thaw: on a directory that plays kernel."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner_agent.shim import cgroups, freezer
from runner_agent.shim.cgroup import Cgroup
from runner_agent.shim.freezer import FreezerCgroup

HYBRID = """\
32 31 0:30 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
33 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
34 31 0:32 / /sys/fs/cgroup/unified rw,relatime shared:3 - cgroup2 cgroup2 rw
"""
IN_A_CONTAINER = "40 31 0:30 /docker/a1 /sys/fs/cgroup/freezer ro - cgroup cgroup rw,freezer\n"
MINE = "6:freezer:/x/y\n4:memory:/other\n1:cpu,cpuacct:/z\n0::/u/v\n"


@pytest.mark.parametrize(
    ("controller", "mounts", "membership", "where"),
    [
        ("", HYBRID, MINE, "/sys/fs/cgroup/unified/u/v"),
        ("freezer", HYBRID, MINE, "/sys/fs/cgroup/freezer/x/y"),
        ("freezer", HYBRID, "6:freezer:/\n", "/sys/fs/cgroup/freezer"),
        ("freezer", HYBRID, "0::/\n", None),
        ("freezer", "", MINE, None),
        ("freezer", HYBRID, "6:freezer:/../outside\n", None),
        ("freezer", IN_A_CONTAINER, "6:freezer:/docker/a1/in\n", "/sys/fs/cgroup/freezer/in"),
        ("freezer", IN_A_CONTAINER, "6:freezer:/docker/a11\n", None),
        ("cpuacct", HYBRID, MINE, "/sys/fs/cgroup/cpu,cpuacct/z"),
    ],
)
def test_our_own_cgroup_is_found_in_every_hierarchy(
    controller: str, mounts: str, membership: str, where: str | None
) -> None:
    assert cgroups.own_directory(controller, mounts, membership) == where


def test_only_a_place_where_we_make_cgroups_is_taken_for_one(tmp_path: Path) -> None:
    path = tmp_path / "banksman-7-a"
    assert cgroups.at(str(path)) is None, "its parent is no cgroup"
    (tmp_path / "cgroup.procs").touch()
    assert isinstance(cgroups.at(str(path)), FreezerCgroup)
    (tmp_path / "cgroup.controllers").touch()
    assert type(cgroups.at(str(path))) is Cgroup
    assert cgroups.at(str(tmp_path / "precious")) is None
    assert cgroups.at(None) is None


class Kernel(FreezerCgroup):
    """A freezer whose files are real, and which takes its time: it notes what is done to it, in order."""

    def __init__(self, path: str, slow_rounds: int = 0) -> None:
        super().__init__(path)
        self.slow_rounds = slow_rounds
        self.done: list[str] = []
        os.makedirs(path, exist_ok=True)
        Path(path, "freezer.state").write_text("THAWED\n")
        Path(path, "cgroup.procs").touch()

    def members(self) -> list[int]:
        self.done.append("list")
        return super().members()

    def _write(self, name: str, text: str) -> bool:
        self.done.append(text)
        if text == "FROZEN" and self.slow_rounds > 0:
            self.slow_rounds -= 1
            text = "FREEZING"
        Path(self.path, name).write_text(f"{text}\n")
        return True


@pytest.fixture
def stubborn() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def test_it_is_frozen_before_anybody_is_killed_and_thawed_after(
    tmp_path: Path, stubborn: subprocess.Popen[bytes]
) -> None:
    kernel = Kernel(str(tmp_path / "banksman-1-a"), slow_rounds=3)
    (tmp_path / "banksman-1-a" / "cgroup.procs").write_text(f"{stubborn.pid}\n")
    assert kernel.kill()
    assert kernel.done == ["FROZEN"] * 4 + ["list", "THAWED"]
    assert stubborn.wait(10) == -signal.SIGKILL


def test_what_will_not_freeze_is_killed_and_said_to_be_doubtful(
    tmp_path: Path, stubborn: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezer, "FREEZE_S", 0.0)
    kernel = Kernel(str(tmp_path / "banksman-1-a"), slow_rounds=1 << 30)
    (tmp_path / "banksman-1-a" / "cgroup.procs").write_text(f"{stubborn.pid}\n")
    assert not kernel.kill(), "the walk goes on from here"
    assert kernel.done[-1] == "THAWED"
    assert stubborn.wait(10) == -signal.SIGKILL


def test_what_the_run_made_below_is_reached_too(tmp_path: Path, stubborn: subprocess.Popen[bytes]) -> None:
    kernel = Kernel(str(tmp_path / "banksman-1-a"))
    below = tmp_path / "banksman-1-a" / "its-own"
    below.mkdir()
    (below / "cgroup.procs").write_text(f"{stubborn.pid}\n")
    assert kernel.populated() is True
    assert kernel.kill()
    assert stubborn.wait(10) == -signal.SIGKILL


def test_one_that_may_not_be_written_kills_nobody(tmp_path: Path) -> None:
    assert not FreezerCgroup(str(tmp_path / "gone")).kill()
    assert FreezerCgroup(str(tmp_path / "gone")).populated() is None
    assert FreezerCgroup(str(tmp_path / "gone")).remove()


def test_our_own_place_is_looked_up_by_the_fork_server_and_not_by_each_shim() -> None:
    cgroups._own_places.cache_clear()
    cgroups.remove_left_behind()
    assert cgroups._own_places.cache_info().currsize == 1
