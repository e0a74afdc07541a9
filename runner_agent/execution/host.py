"""What the host looks like: load, free disk, boot, and what of its set-up would harm runs."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner_agent.shim import cgroups, files

_SYSTEMCTL_TIMEOUT_S = 5.0


def facts() -> dict[str, str]:
    """The labels that every runner has by itself, e.g. os=linux and arch=x86_64; a label of the settings wins."""
    return {"os": platform.system().lower(), "arch": platform.machine()}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """What `check` prints and Hello tells. `kill_mode` is empty outside of a systemd unit."""

    boot_id: str
    cgroup: str
    uid: int
    unit: str
    kill_mode: str

    @property
    def warnings(self) -> tuple[str, ...]:
        """What should be otherwise, each with the way out."""
        found = [
            f"Runs execute as the agent's own user (uid {self.uid}): any run can read the agent's credential and what "
            "other runs of this host do."
        ]
        if self.kill_mode and self.kill_mode != "process":
            found.append(
                f"{self.unit} has KillMode={self.kill_mode}: a restart of the agent kills every run. Set "
                "KillMode=process (and Delegate=yes) in the unit."
            )
        if not self.cgroup:
            found.append(
                "No cgroup can be used: trees are killed by walking them, and memory limits are not available. Under "
                "systemd, set Delegate=yes in the unit."
            )
        return tuple(found)


def look(environ: Mapping[str, str], *, use_cgroups: bool = True) -> HostReport:
    """Read what the host tells. Never fails for what cannot be found out."""
    unit = systemd_unit(environ)
    return HostReport(
        boot_id=files.boot_id(),
        cgroup=usable_cgroup() if use_cgroups else "",
        uid=os.geteuid(),
        unit=unit,
        kill_mode=kill_mode(unit) if unit else "",
    )


def usable_cgroup() -> str:
    """Where attempts can have cgroups of their own, tried out; empty if they cannot."""
    made = cgroups.create(f"banksman-check-{os.getpid()}")
    if made is None:
        return ""
    made.remove()
    return os.path.dirname(made.path)


def systemd_unit(environ: Mapping[str, str], cgroup_file: Path = Path("/proc/self/cgroup")) -> str:
    """The systemd service that this process belongs to; empty if it is none."""
    if "INVOCATION_ID" not in environ:
        return ""
    try:
        lines = cgroup_file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        for part in reversed(line.split(":", 2)[-1].split("/")):
            if part.endswith(".service"):
                return part
    return ""


def kill_mode(unit: str) -> str:
    """The unit's KillMode, as systemd tells; empty if it cannot be asked."""
    arguments = ["systemctl", "show", "--property=KillMode", "--value", unit]
    for extra in ((), ("--user",)):
        try:
            answer = subprocess.run(
                [arguments[0], *extra, *arguments[1:]],
                capture_output=True,
                text=True,
                timeout=_SYSTEMCTL_TIMEOUT_S,
                check=True,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if answer.stdout.strip():
            return answer.stdout.strip()
    return ""


def measure(state_dir: Path) -> tuple[float, int]:
    """(load of the last minute, bytes free for us on the state directory's file system)."""
    disk = os.statvfs(state_dir)
    return os.getloadavg()[0], disk.f_bavail * disk.f_frsize
