"""An agent in a process of its own, to be killed: starts one attempt from a JSON file and then only waits.

Arguments: state directory, file with the AttemptStart as JSON. Prints the fork server's and the shim's pid when it is
started, then events. A line on standard input is a loss deadline: it is sent, then "renewed" is printed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from runner_agent.execution.run_directory import StateDirectory
from runner_agent.execution.shim_link import AttemptStart, ForkServer, ShimLink
from runner_agent.shim import codec


async def renew(link: ShimLink) -> None:
    """Once; the shim need not read it while this agent lives."""
    if line := await asyncio.to_thread(sys.stdin.readline):
        link.renew(int(line))
        print("renewed", flush=True)


async def main() -> None:
    """Start, say so, and hold on."""
    state = StateDirectory.open(Path(sys.argv[1]))
    start = codec.from_json(AttemptStart, json.loads(Path(sys.argv[2]).read_text()))
    fork_server = await ForkServer.connect_or_spawn(state.path)
    link = await fork_server.start(state.accept(start.run_id, start.epoch, {}), start)
    print(fork_server.pid, link.shim_pid, flush=True)
    async with asyncio.TaskGroup() as group:
        group.create_task(renew(link), name="renew")
        async for event in link.events():
            print(event, flush=True)


asyncio.run(main())
