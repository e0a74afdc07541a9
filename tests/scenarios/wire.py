"""A real control plane, and runners that are played word by word: what each word may and may not bring about."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

from banksman.v1 import run_pb2, runner_pb2, spec_pb2
from banksman.v1 import session_pb2 as pb

from tests.fakes.runner import ScriptedRunner, Stream, exit_record
from tests.fakes.server import log_digest
from tests.scenarios.house import House
from tests.scenarios.specs import command, seconds, spec
from tests.waiting import wait_for_async

PATIENCE_S = 20.0
_names = itertools.count(1)
SOON = spec_pb2.RetryPolicy(max_attempts=2, backoff=seconds(1), backoff_cap=seconds(1))


class Wire:
    """One scripted runner of its own name, and runs that only it may take."""

    def __init__(self, house: House, runner: ScriptedRunner) -> None:
        self.house, self.runner = house, runner
        self.name = runner.name

    def submit(self, **fields: Any) -> run_pb2.Run:
        """A run for this runner; `fields` are RunSpec's."""
        wanted = spec(command(["true"]), labels={"name": self.name}, **fields)
        return self.house.submit(wanted)

    def get(self, run: run_pb2.Run) -> run_pb2.Run:
        return self.house.get(run.id)

    async def given(self, stream: Stream, run: run_pb2.Run) -> Any:
        """Accepted: the Assignment has come. Its key."""
        key = (await stream.accept()).key
        assert key.run_id == run.id
        return key

    async def begun(self, stream: Stream, **fields: Any) -> tuple[run_pb2.Run, Any]:
        """A run that runs here, and its key."""
        run = self.submit(**fields)
        key = await self.given(stream, run)
        await stream.started(key)
        await self.until(run, run_pb2.RUN_STATE_RUNNING)
        return run, key

    async def until(self, run: run_pb2.Run, *states: run_pb2.RunState.ValueType) -> run_pb2.Run:
        """The run once it is in one of the states."""

        async def there() -> run_pb2.Run | None:
            now = await asyncio.to_thread(self.get, run)
            return now if now.state in states else None

        wanted = [run_pb2.RunState.Name(state) for state in states]
        return await wait_for_async(there, what=f"the run is {wanted}; it is {self.get(run)}", timeout_s=PATIENCE_S)

    async def settled(self, run: run_pb2.Run) -> run_pb2.Run:
        """The run once nothing of it is missing."""
        try:
            return await asyncio.to_thread(self.house.wait, run.id, timeout_s=PATIENCE_S)
        except TimeoutError:
            now = self.get(run)
            states = [run_pb2.AttemptState.Name(each.state) for each in now.attempts]
            words = f"the run does not settle: {run_pb2.RunState.Name(now.state)}, its attempts {states}"
        raise AssertionError(words)

    async def hears(self, stream: Stream, kind: str, otherwise: str) -> Any:
        """The next message of a kind; `otherwise` is what its absence means."""
        try:
            return await stream.expect(kind)
        except TimeoutError:
            words = f"{otherwise}: no {kind}"
        raise AssertionError(words)

    async def quiet(self, stream: Stream, seq: int = 1, *held: Any) -> Any:
        """What was said before this was heard; the answers to all of it have come. The heartbeat's ack."""
        return await stream.heartbeat(seq, *held)


@contextlib.asynccontextmanager
async def played(house: House, name: str = "", directory: str = "") -> AsyncIterator[Wire]:
    """A fresh scripted runner."""
    name = name or f"played-{next(_names)}"
    made = await asyncio.to_thread(house.doors.runners.CreateJoinToken, runner_pb2.CreateJoinTokenRequest())
    runner = ScriptedRunner(house.admin.target, name=name, state_directory_id=directory or f"of-{name}")
    try:
        await runner.enroll(made.secret)
        yield Wire(house, runner)
    finally:
        await runner.close()


def labels(wire: Wire) -> dict[str, str]:
    return {"os": "linux", "name": wire.name}


def listed(key: Any, phase: pb.HeldPhase.ValueType, **words: Any) -> Any:
    """One entry of an inventory."""
    return pb.HeldAttempt(key=key, phase=phase, boot_id="boot-1", **words)


def record(code: int = 0, log: bytes = b"", **more: Any) -> Any:
    """The exit record of a program that wrote `log`."""
    return exit_record(code, log=log, digest=log_digest(log), **more)
