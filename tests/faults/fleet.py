"""Many runners in one process: the agent's own session, back-off and decisions, with nothing below them.

As a program: `python -m tests.faults.fleet DIRECTORY SERVER COUNT`; DIRECTORY/tokens has a join token per line. It says
nothing until it is ended; the control plane is asked who is there. They come one after another, over STAGGER_S.
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import asyncio
import pathlib
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator

from banksman.v1 import runner_pb2

from runner_agent.clock import SystemClock
from runner_agent.domain.state import Identity, initial_state
from runner_agent.execution.reconciler import Reconciler
from runner_agent.session.connection import Connection
from runner_agent.session.credential_file import FILE_NAME
from runner_agent.session.enrolment import Enrolment
from runner_agent.telemetry import configure
from tests.scenarios.house import House
from tests.scenarios.program import Program
from tests.waiting import wait_for

STAGGER_S = 5.0


class Nobody:
    """The attempts of a runner that never has one."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"this runner was offered something: {name}")


async def live(directory: pathlib.Path, server: str, name: str, token: str, late_s: float) -> None:
    """One runner, for ever."""
    await asyncio.sleep(late_s)
    directory.mkdir()
    clock = SystemClock()
    identity = Identity(agent_version="fleet", slots=1, boot_id="boot", state_directory_id=uuid.uuid4().hex)
    reconciler = Reconciler(state=initial_state(identity, []), clock=clock, measure=lambda: (0.0, 1 << 40))
    enrolment = Enrolment(
        path=directory / FILE_NAME,
        clock=clock,
        name=name,
        labels={},
        join_token=lambda: token,
        replace_name=False,
    )
    connection = Connection(server=server, insecure=False, enrolment=enrolment, host=reconciler, clock=clock)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.run(), name=f"connection of {name}")
        await reconciler.run(Nobody())  # type: ignore[arg-type]


async def main(directory: pathlib.Path, server: str, count: int) -> None:
    """All runners of this process."""
    tokens = (directory / "tokens").read_text().splitlines()
    async with asyncio.TaskGroup() as tasks:
        for number, token in enumerate(tokens[:count]):
            name = f"{directory.name}-{number}"
            one = live(directory / str(number), server, name, token, STAGGER_S * number / count)
            tasks.create_task(one, name=name)


class Fleet(Program):
    """Such a process; `names` are its runners'."""

    def __init__(self, house: House, name: str, count: int) -> None:
        directory = house.root / name
        directory.mkdir()
        tokens = [house.join_token().read_text() for _ in range(count)]
        (directory / "tokens").write_text("\n".join(tokens))
        self.names = {f"{name}-{number}" for number in range(count)}
        argv = [sys.executable, "-m", "tests.faults.fleet", str(directory), house.admin.url, str(count)]
        super().__init__(name, argv, house.root)


def connected(house: House) -> dict[str, int]:
    """Session epochs of the runners that are shown connected."""
    return {runner.name: runner.session_epoch for runner in runners(house) if runner.connected}


def runners(house: House) -> Iterator[runner_pb2.Runner]:
    """All runners, over all pages."""
    token = ""
    while True:
        answer = house.doors.runners.ListRunners(runner_pb2.ListRunnersRequest(page_size=1000, page_token=token))
        yield from answer.runners
        token = answer.next_page_token
        if not token:
            return


def wait_all(
    house: House, fleets: Iterable[Fleet], newer: Callable[[str, int], bool] = lambda name, epoch: True
) -> None:
    """Until every runner of the fleets is in a session (of which `newer` holds)."""
    names = {name for fleet in fleets for name in fleet.names}

    def there() -> bool:
        now = connected(house)
        return all(name in now and newer(name, now[name]) for name in names)

    wait_for(there, what=f"{len(names)} runners are in session", timeout_s=120)


if __name__ == "__main__":
    configure(level="error", style="text")
    asyncio.run(main(pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
