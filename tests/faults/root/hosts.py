"""Runners on hosts that a test alters: other mounts, fewer rights, a small disk."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.scenarios.house import Agent, House

# In a mount namespace of its own: no version 2; a freezer hierarchy if the host shows none.
NO_VERSION_2 = """
for place in $(sed -n 's/^[^ ]* [^ ]* [^ ]* [^ ]* \\([^ ]*\\) .* - cgroup2 .*/\\1/p' /proc/self/mountinfo); do
  umount -l "$place" || exit 90
done
grep -q ' - cgroup [^ ]* .*freezer' /proc/self/mountinfo || mount -t cgroup -o freezer none "$0" || exit 91
exec "$@"
"""


def wrapped(agent: Agent, *prefix: str) -> Agent:
    """The agent, started by way of another program."""
    agent.argv[:0] = prefix
    return agent


def without_version_2(house: House, agent: Agent) -> Agent:
    """A host that has only version 1 of cgroups."""
    mount = house.root / "freezer"
    mount.mkdir()
    return wrapped(agent, "unshare", "--mount", "sh", "-c", NO_VERSION_2, str(mount))


def without_the_right_to_kill(agent: Agent) -> Agent:
    """A host whose agent may signal its own user's processes only, and has no cgroups."""
    agent.argv.append("--no-cgroups")
    return wrapped(agent, "setpriv", "--bounding-set=-kill", "--inh-caps=-kill")


@contextmanager
def small_disk(path: pathlib.Path, size_bytes: int, *options: str) -> Iterator[None]:
    """A tmpfs of this size under `path`."""
    path.mkdir(parents=True, exist_ok=True)
    wanted = ",".join((f"size={size_bytes}", "mode=700", *options))
    subprocess.run(["mount", "-t", "tmpfs", "-o", wanted, "none", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
