"""The real agent with points in it: `python -m tests.failpoints.runner run ...`.

Its fork server, when it has to start one, has the points of `tests.failpoints.fork_server`.
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from banksman.v1 import session_pb2

from runner_agent import __main__ as program
from runner_agent import app
from runner_agent.domain import backoff
from runner_agent.execution import execution, run_directory, shim_link
from runner_agent.execution.reconciler import Reconciler
from runner_agent.execution.run_directory import StateDirectory
from runner_agent.session.session import Session
from tests.failpoints.points import DIRECTORY, ORDERS, reach

BACKOFF = "FAILPOINT_BACKOFF_S"
IDLE = "FAILPOINT_IDLE_S"  # for the fork server
# What the runner says, by the name of the moment that matters.
SAID = {
    "hello": "hello",
    "offer_reply": "accept",
    "attempt_started": "started",
    "attempt_exited": "exit",
    "log_chunk": "log",
    "stop_status": "stop_status",
    "attempt_event": "step",
    "heartbeat": "heartbeat",
    "drain_notice": "drain",
}
HEARD = {
    "Started": "started",
    "StepEnded": "step_ended",
    "StopPhase": "stop_phase",
    "Spooled": "spooled",
    "Exited": "exited",
    "ShimGone": "shim_gone",
}
_PRODUCT = "from runner_agent.shim.fork_server import main"
_WITH_POINTS = "from tests.failpoints.fork_server import main"


def install() -> None:
    """Put the points in; and a test need not wait for a runner that comes back slower and slower."""
    backoff.CAP_S = float(os.environ.get(BACKOFF, backoff.CAP_S))
    _in_start()
    _in_journal()
    _in_session()
    _in_links()
    _in_release()
    _in_fork_server()


def _in_start() -> None:
    look_around, live, ask_to_leave = app._look_around, app._live, program._ask_to_leave
    opened = StateDirectory.open

    def locked(path: Path) -> StateDirectory:
        state = opened(path)
        reach("agent.start.locked")
        return state

    def looked(*arguments: Any) -> Any:
        reach("agent.start.before_scan")
        found = look_around(*arguments)
        reach("agent.start.scanned")
        return found

    async def lives(*arguments: Any) -> None:
        reach("agent.start.ready")
        await live(*arguments)

    def waiting(*arguments: Any) -> bool:
        asked = ask_to_leave(*arguments)
        reach("agent.start.waiting")
        return asked

    program._ask_to_leave = waiting
    program.StateDirectory.open = staticmethod(locked)
    app._look_around = looked
    app._live = lives


def _in_journal() -> None:
    accept = StateDirectory.accept_all

    def accepted(self: StateDirectory, *arguments: Any) -> Any:
        reach("agent.accept.before_journal")
        answers = accept(self, *arguments)
        reach("agent.accept.after_journal")
        return answers

    StateDirectory.accept_all = accepted


class _Told:
    """A call that reaches points around each message."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    async def write(self, message: bytes) -> None:
        word = SAID[session_pb2.SessionRequest.FromString(message).WhichOneof("message") or ""]
        reach(f"agent.{word}.before_send")
        await self._call.write(message)
        reach(f"agent.{word}.after_send")


def _in_session() -> None:
    begin, received = Session.__init__, Reconciler.received

    def begun(self: Any, *arguments: Any) -> None:
        begin(self, *arguments)
        self._call = _Told(self._call)

    async def heard(self: Reconciler, message: Any) -> None:
        reach(f"agent.{type(message).__name__.lower()}.received")
        await received(self, message)

    Session.__init__ = begun
    Reconciler.received = heard


def _in_links() -> None:
    begin, stop, event_of = shim_link._Start.begin, shim_link.ShimLink.stop, execution.event_of

    def begun(self: Any, **options: Any) -> None:
        done = self._done

        def told(answer: Any) -> None:
            if isinstance(answer, shim_link.ShimLink):
                reach("agent.fork.after_order")
            done(answer)

        reach("agent.fork.before_order")
        self._done = told
        begin(self, **options)

    def stopped(self: Any, *arguments: Any) -> None:
        reach("agent.stop.before_pass_on")
        stop(self, *arguments)
        reach("agent.stop.passed_on")

    def heard(key: Any, event: Any, notes: Any) -> Any:
        reach(f"agent.{HEARD.get(type(event).__name__, 'event')}.heard")
        return event_of(key, event, notes)

    shim_link._Start.begin = begun
    shim_link.ShimLink.stop = stopped
    execution.event_of = heard


def _in_release() -> None:
    release, forget, remove = StateDirectory.release, execution.Execution._forget, run_directory.remove_gone

    def released(self: StateDirectory, *arguments: Any, **options: Any) -> None:
        reach("agent.release.before_run_directory")
        release(self, *arguments, **options)
        reach("agent.release.done")

    def forgotten(self: Any) -> None:
        reach("agent.release.before_workspace")
        forget(self)

    def removed(path: Path, names: Sequence[str]) -> None:
        reach("agent.release.renamed")
        remove_half(path, names)
        reach("agent.release.half_deleted")
        remove(path, names)

    StateDirectory.release = released
    execution.Execution._forget = forgotten
    run_directory.remove_gone = removed


def remove_half(path: Path, names: Sequence[str]) -> None:
    """Every second file of a directory that is on its way out."""
    for name in sorted(names)[::2]:
        (path / name).unlink(missing_ok=True)


def _in_fork_server() -> None:
    execute, environment = asyncio.create_subprocess_exec, shim_link._spawn_environment

    async def executed(*words: Any, **options: Any) -> Any:
        return await execute(*with_points(words), **options)

    asyncio.create_subprocess_exec = executed
    shim_link._spawn_environment = lambda: {**environment(), **orders()}


def with_points(words: Sequence[Any]) -> list[Any]:
    """The command line that starts a fork server with points, made of the one that starts the product's."""
    return [word.replace(_PRODUCT, _WITH_POINTS) if isinstance(word, str) else word for word in words]


def orders() -> dict[str, str]:
    """What a fork server needs of our environment to have points."""
    return {name: os.environ[name] for name in (ORDERS, DIRECTORY, IDLE) if name in os.environ}


def run(arguments: Sequence[str] | None = None) -> int:
    """The product's own main, with points."""
    install()
    reach("agent.start.begun")
    return program.main(arguments)


if __name__ == "__main__":
    sys.exit(run())
