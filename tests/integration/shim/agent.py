"""An agent in a process of its own, to be killed: starts one attempt from a JSON file and then only waits.

Arguments: state directory, run id, file with the AttemptStart as JSON. Prints the shim's pid when it is started.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from runner_agent.execution.run_directory import StateDirectory
from runner_agent.execution.shim_link import AttemptStart, ForkServer
from runner_agent.shim import codec


async def main() -> None:
    """Start, say so, and hold on."""
    state = StateDirectory.open(Path(sys.argv[1]))
    start = codec.from_json(AttemptStart, json.loads(Path(sys.argv[2]).read_text()))
    fork_server = await ForkServer.connect_or_spawn(state.path)
    link = await fork_server.start(state.accept(start.run_id, start.epoch, {}), start)
    print(fork_server.pid, link.shim_pid, flush=True)
    async for event in link.events():
        print(event, flush=True)


asyncio.run(main())
