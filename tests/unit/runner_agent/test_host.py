"""What the agent finds out about its host, and what it warns of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runner_agent.execution import host
from runner_agent.execution.host import HostReport

GOOD = HostReport(boot_id="b", cgroup="/sys/fs/cgroup/x", uid=1000, unit="", kill_mode="")


@pytest.mark.parametrize(
    ("environ", "text", "unit"),
    [
        ({}, "0::/system.slice/banksman-runner.service\n", ""),
        ({"INVOCATION_ID": "x"}, "0::/system.slice/banksman-runner.service\n", "banksman-runner.service"),
        ({"INVOCATION_ID": "x"}, "0::/user.slice/user-1.slice/user@1.service/app.slice/r.service/runs\n", "r.service"),
        ({"INVOCATION_ID": "x"}, "12:pids:/a.scope\n0::/user.slice/session-1.scope\n", ""),
        ({"INVOCATION_ID": "x"}, "", ""),
    ],
)
def test_the_unit_is_read_from_the_cgroup(tmp_path: Path, environ: dict[str, str], text: str, unit: str) -> None:
    (tmp_path / "cgroup").write_text(text)
    assert host.systemd_unit(environ, tmp_path / "cgroup") == unit


def test_without_a_cgroup_file_there_is_no_unit(tmp_path: Path) -> None:
    assert host.systemd_unit({"INVOCATION_ID": "x"}, tmp_path / "none") == ""


@pytest.mark.parametrize(
    ("script", "mode"),
    [
        ("echo process", "process"),
        ('[ "$1" = --user ] || exit 1; echo mixed', "mixed"),
        ("exit 1", ""),
        ("exit 0", ""),
    ],
)
def test_kill_mode_is_what_systemd_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, mode: str
) -> None:
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert host.kill_mode("r.service") == mode


def test_without_systemctl_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert host.kill_mode("r.service") == ""


def test_it_always_says_that_runs_can_read_the_credential() -> None:
    (warning,) = GOOD.warnings
    assert "uid 1000" in warning


@pytest.mark.parametrize(("kill_mode", "warned"), [("process", False), ("", False), ("control-group", True)])
def test_a_kill_mode_that_would_kill_runs_is_warned_of(kill_mode: str, warned: bool) -> None:
    report = replace(GOOD, unit="r.service", kill_mode=kill_mode)
    assert any("KillMode=process" in warning for warning in report.warnings) is warned


def test_no_cgroup_is_warned_of() -> None:
    assert any("Delegate=yes" in warning for warning in replace(GOOD, cgroup="").warnings)


def test_looking_works_here(tmp_path: Path) -> None:
    report = host.look({})
    assert report.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert host.look({}, use_cgroups=False).cgroup == ""
    load, free = host.measure(tmp_path)
    assert load >= 0
    assert free > 0
