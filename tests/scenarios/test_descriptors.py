"""The server takes as many file descriptors as its host allows: a connected runner is one."""

from __future__ import annotations

import pathlib
import re
import resource
import sys
from collections.abc import Sequence

from tests.scenarios.house import House

FEW = 256
LOWERED = (
    "import os, resource, sys\n"
    f"resource.setrlimit(resource.RLIMIT_NOFILE, ({FEW}, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
    "os.execv(sys.executable, [sys.executable, '-m', 'control_plane', *sys.argv[1:]])\n"
)


class Cramped(House):
    """Its server is started with the soft limit that a shell or an old init system may set."""

    def server_argv(self) -> Sequence[str]:
        return [sys.executable, "-c", LOWERED]


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Cramped() as house:
        limits = pathlib.Path(f"/proc/{house.server.pid}/limits").read_text()
    found = re.search(r"Max open files +(\d+|unlimited)", limits)
    assert found
    assert found[1] == ("unlimited" if most == resource.RLIM_INFINITY else str(most))
