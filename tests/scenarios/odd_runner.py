"""The real agent on a host whose boot id and wall clock a test decides: `odd_runner.py SETTINGS run …`.

SETTINGS is a JSON file that is read at every look: {"boot_id": "…", "wall_s": seconds to add}. Nothing else differs.
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import json
import pathlib
import sys
import time

from runner_agent import __main__ as program
from runner_agent.clock import SystemClock
from runner_agent.shim import files


def main() -> int:
    """Bend boot id and clock, and run the agent."""
    place = pathlib.Path(sys.argv.pop(1))
    true_boot_id = files.boot_id()

    def setting(name: str) -> object:
        return json.loads(place.read_text()).get(name)

    def boot_id() -> str:
        return str(setting("boot_id") or true_boot_id)

    def wall_ns(_: SystemClock) -> int:
        return time.time_ns() + int(float(str(setting("wall_s") or 0)) * 1e9)

    files.boot_id = boot_id
    SystemClock.wall_ns = wall_ns  # type: ignore[method-assign]
    return program.main()


if __name__ == "__main__":
    sys.exit(main())
