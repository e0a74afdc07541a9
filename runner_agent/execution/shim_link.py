"""Start the shim of an attempt, find it again after a restart, and talk to it.

The shim does not need this link: closing it, or killing the agent, disturbs nothing. Everything that a link tells it
tells again from the first event on after `ShimLink.attach`, so events are idempotent for the reader.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import runner_agent
from runner_agent.execution.line import Line
from runner_agent.shim import codec, protocol
from runner_agent.shim.messages import (
    AttemptStart,
    Exited,
    ExitRecord,
    Outcome,
    Phase,
    Progress,
    Reason,
    Result,
    ShimEvent,
    ShimGone,
    Spooled,
    Started,
    StepEnded,
    StepKind,
    StepRecord,
    StepStart,
    StopMark,
    StopPhase,
    Usage,
)
from runner_agent.shim.protocol import ALREADY_ACTIVE
from runner_agent.shim.wire import event_from_frame

__all__ = [
    "AttemptStart", "ExitRecord", "Exited", "ForkServer", "ForkServerGone",
    "NothingHandedOver", "Outcome", "Phase", "Progress", "Reason", "Reservation",
    "Result", "ShimEvent", "ShimGone", "ShimLink", "ShimRefused", "Spooled", "Started", "StepEnded", "StepKind",
    "StepRecord", "StepStart", "StopMark", "StopPhase", "UnknownShimVersion", "Usage",
]  # fmt: skip

ANSWER_TIMEOUT_S = 30.0
SPAWN_TIMEOUT_S = 20.0
RETRY_S = 0.05


class ForkServerGone(ConnectionError):
    """The fork server cannot be reached or left before it answered; `connect_or_spawn` gets a new one."""


class NothingHandedOver(ForkServerGone):
    """The fork server left before a shim was ready: nothing was given to any, and another one can be asked at once."""


class ShimRefused(RuntimeError):
    """The shim did not start the attempt, or is not the one that was asked for; the text says why.

    Nothing was executed. The run directory tells what holds now (`run_directory.settle`).
    """


class UnknownShimVersion(ShimRefused):
    """A live shim speaks a protocol that this agent does not know: leave it alone until it has ended."""


async def _expect(line: Line, kind: str) -> codec.JsonObject:
    """The next frame, which must be a `kind`. Raises ShimRefused, ForkServerGone or TimeoutError."""
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        frame = await line.receive()
    if frame is None:
        raise ForkServerGone(f"the other end closed before it sent {kind!r}")
    if frame["type"] != kind:
        raise _not_expected(frame, kind)
    return frame


class ShimLink:
    """A connection to a live shim. Its events are told to a listener or iterated by one task, not both."""

    def __init__(self, run_directory: Path, line: Line, shim_pid: int) -> None:
        self.run_directory = run_directory
        self.shim_pid = shim_pid
        self._line = line
        self._least_grace_s: float | None = None

    @classmethod
    async def attach(cls, run_directory: Path, *, run_id: str, epoch: int) -> ShimLink:
        """Connect to the shim that holds `run_directory`.

        Raises OSError (nobody listens: it has just ended or not yet begun to listen; look at the directory again),
        ShimRefused (it is another attempt's), UnknownShimVersion (keep it and wait), TimeoutError.
        """
        line = Line.open(run_directory, protocol.CONTROL_SOCKET)
        try:
            line.send("attach", {**protocol.versions(), "run_id": run_id, "epoch": epoch})
            attached = await _expect(line, "attached")
            _check_version(attached)
        except BaseException:
            line.close()
            raise
        return cls(run_directory, line, _number(attached, "pid"))

    def stop(self, reason: Reason, signal: int, grace_s: float) -> None:
        """Ask for a stop. Repeats are harmless; only a shorter grace changes something. `StopPhase` events answer.

        Raises ConnectionError when the shim is gone.
        """
        least_s, again = self._least_grace_s, "" if self._least_grace_s is None else "shorter grace"
        if least_s is None or grace_s < least_s:  # what was said, or waits in the line, is not lost while that lives
            self._least_grace_s = grace_s
            self._line.send("stop", {"reason": reason.value, "signal": signal, "grace_s": grace_s}, newest=again)

    def renew(self, loss_deadline_boottime_ns: int | None) -> None:
        """Move the loss deadline (CLOCK_BOOTTIME ns; None: never). Raises ConnectionError when the shim is gone."""
        self._line.send("renew", {"loss_deadline_boottime_ns": loss_deadline_boottime_ns}, newest="renew")

    async def add_mask(self, value: bytes) -> None:
        """Mask one more secret from now on; returns once it is in force.

        Raises ShimRefused for a value that is too short to mask, OSError when the shim is gone.
        """
        line = Line.open(self.run_directory, protocol.CONTROL_SOCKET)
        try:
            line.send("add_mask", {"value": codec.to_json(value)})
            await _expect(line, "masked")
        finally:
            line.close()

    async def events(self) -> AsyncIterator[ShimEvent]:
        """Every event from the attempt's first, then live ones; ends with Exited or ShimGone. Call it once.

        `Spooled` is coalesced by the shim; a slow reader holds nothing back but its own socket buffer.
        """
        while (frame := await self._line.receive()) is not None:
            event = event_from_frame(frame)
            if event is None:
                continue  # told by a newer shim, to newer agents
            yield event
            if isinstance(event, Exited):
                return
        yield ShimGone()

    def listen(self, hear: Callable[[ShimEvent], None], broke: Callable[[codec.BadMessage], None]) -> None:
        """Tell what `events` would give, as it comes; `broke` when the shim says what cannot be understood."""

        def hear_frame(frame: codec.JsonObject) -> None:
            event = event_from_frame(frame)
            if event is not None:
                hear(event)

        def ended(why: codec.BadMessage | None) -> None:
            if why is None:
                hear(ShimGone())
            else:
                broke(why)

        self._line.listen(hear_frame, ended)

    def close(self) -> None:
        """Drop the link. The shim does not mind."""
        self._line.close()


class _Start:
    """The conversation in which an attempt is handed to a shim: fork and start, answered by ready and accepted.

    A shim says that it is ready before it reads the start: if the line ends without that word, nobody has it. Fork may
    have been said before, to have the shim ready when the start is known.
    """

    def __init__(
        self, line: Line, run_directory: Path, start: AttemptStart, done: Callable[[ShimLink | Exception], object]
    ) -> None:
        self._line, self._run_directory, self._start, self._done = line, run_directory, start, done
        self._pid: int | None = None
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(ANSWER_TIMEOUT_S, self._fail, TimeoutError("no answer"))

    def begin(self, *, forked: bool = False) -> None:
        try:
            if not forked:
                _ask_to_fork(self._line, self._run_directory)
            self._line.send("start", {"start": codec.to_json(self._start)})
        except ConnectionError:
            pass  # if it has said why, that can still be read
        self._line.listen(self._hear, self._ended)

    def _hear(self, frame: codec.JsonObject) -> None:
        match frame["type"]:
            case "ready" if self._pid is None:
                self._pid = _number(frame, "pid")
            case "accepted" if self._pid is not None:
                self._patience.cancel()
                self._line.pause()
                self._done(ShimLink(self._run_directory, self._line, self._pid))
            case _:
                self._fail(_not_expected(frame, "accepted" if self._pid else "ready"))

    def _ended(self, why: codec.BadMessage | None) -> None:
        kind = NothingHandedOver if self._pid is None else ForkServerGone
        self._fail(why or kind("the other end closed before the attempt was taken over"))

    def _fail(self, error: Exception) -> None:
        self._patience.cancel()
        self._line.close()
        self._done(error)


def _ask_to_fork(line: Line, run_directory: Path) -> None:
    line.send("fork", {**protocol.versions(), "run_directory": run_directory.name})


class Reservation:
    """A shim that waits in the run directory of an accepted attempt, or is on its way there. It knows nothing yet.

    It is a convenience: when it has left, by itself after a while, the attempt is started without it.
    """

    def __init__(self, run_directory: Path, line: Line) -> None:
        self._run_directory = run_directory
        self._line = line

    def begin(self, start: AttemptStart, done: Callable[[ShimLink | Exception], object]) -> bool:
        """Hand it the attempt, as `ForkServer.begin` does. False if it has left: nothing was handed over."""
        if self._line.has_ended():
            self._line.close()
            return False
        _Start(self._line, self._run_directory, start, done).begin(forked=True)
        return True

    def close(self) -> None:
        """It is not needed: it leaves soon, and nothing in the run directory says that it was there."""
        self._line.close()


def _not_expected(frame: codec.JsonObject, kind: str) -> Exception:
    if frame["type"] == "refused":
        # One whose patience was at an end as the start came has given the directory back before it says so.
        known: dict[object, type[Exception]] = {"VERSION": UnknownShimVersion, "BAD_START": NothingHandedOver}
        return known.get(frame.get("code"), ShimRefused)(str(frame.get("message", "no reason given")))
    return codec.BadMessage(f"expected {kind!r}, got {frame['type']!r}")


class ForkServer:
    """The process above this host's shims. It outlives the agent; a new agent adopts it."""

    def __init__(self, state_directory: Path, pid: int) -> None:
        self.state_directory = state_directory
        self.pid = pid

    @classmethod
    async def connect_or_spawn(cls, state_directory: Path, *, use_cgroups: bool = True) -> ForkServer:
        """Adopt the fork server of `state_directory`, or start one. One of another build is asked to retire first.

        Raises ForkServerGone with its last words if it does not start, TimeoutError after SPAWN_TIMEOUT_S, OSError if
        the directory is unusable.
        """
        async with asyncio.timeout(SPAWN_TIMEOUT_S):
            while True:
                pid = await cls._adopt(state_directory) or await cls._spawn(state_directory, use_cgroups)
                if pid is not None:
                    return cls(state_directory, pid)
                await asyncio.sleep(RETRY_S)  # another agent has just started one, which does not listen yet

    async def start(self, run_directory: Path, start: AttemptStart) -> ShimLink:
        """Fork a shim for the accepted attempt in `run_directory` and hand it the start; the steps begin at once.

        Raises ForkServerGone, ShimRefused (directory held, tombstone, already started, disk full), TimeoutError.
        After any of them nothing is known to run: settle the run directory before another try.
        """
        answer: asyncio.Future[ShimLink | Exception] = asyncio.get_running_loop().create_future()

        def tell(told: ShimLink | Exception) -> None:
            if not answer.done():
                answer.set_result(told)

        self.begin(run_directory, start, tell)
        told = await answer
        if isinstance(told, Exception):
            raise told
        return told

    def begin(self, run_directory: Path, start: AttemptStart, done: Callable[[ShimLink | Exception], object]) -> None:
        """As `start`, without a task: `done` is called once with the link or with what `start` would raise."""
        try:
            line = Line.open(self.state_directory, protocol.FORK_SERVER_SOCKET)
        except OSError as error:
            done(NothingHandedOver(f"the fork server does not answer: {error}"))
            return
        _Start(line, run_directory, start, done).begin()

    def reserve(self, run_directory: Path) -> Reservation:
        """Have a shim wait in the run directory of an accepted attempt. Raises OSError."""
        line = Line.open(self.state_directory, protocol.FORK_SERVER_SOCKET)
        try:
            _ask_to_fork(line, run_directory)
        except OSError:
            line.close()
            raise
        return Reservation(run_directory, line)

    def hold(self) -> int:
        """Keep it from leaving for want of use: a descriptor of ours, to be closed. Raises ForkServerGone."""
        try:
            return protocol.connect(str(self.state_directory), protocol.FORK_SERVER_SOCKET).detach()
        except OSError as error:
            raise ForkServerGone(f"the fork server does not answer: {error}") from error

    async def is_alive(self) -> bool:
        """Whether the fork server still answers; ask now and then and call `connect_or_spawn` again if not."""
        try:
            return await self._adopt(self.state_directory) == self.pid
        except (OSError, TimeoutError, codec.BadMessage):
            return False

    async def retire(self) -> None:
        """Tell it to take no more attempts and to leave with its last shim."""
        line = Line.open(self.state_directory, protocol.FORK_SERVER_SOCKET)
        try:
            line.send("retire")
            await _expect(line, "retiring")
        finally:
            line.close()

    @classmethod
    async def _adopt(cls, state_directory: Path) -> int | None:
        """The pid of a fork server of this very build; None if there is none. Another build's is told to retire."""
        try:
            line = Line.open(state_directory, protocol.FORK_SERVER_SOCKET)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except BlockingIOError as error:
            raise ForkServerGone("the fork server takes no connections: it may have been stopped") from error
        try:
            line.send("hello", protocol.versions())
            answer = await _expect(line, "fork_server")
            if answer.get("build") == build_id():
                return _number(answer, "pid")
            line.send("retire")
            await _expect(line, "retiring")
            return None
        except ForkServerGone:
            return None
        finally:
            line.close()

    @classmethod
    async def _spawn(cls, state_directory: Path, use_cgroups: bool) -> int | None:
        """The pid of a new fork server; None if another one holds the place."""
        root = str(Path(runner_agent.__file__).resolve().parent.parent)
        bootstrap = f"import sys; sys.path.append({root!r}); from runner_agent.shim.fork_server import main; main()"
        arguments = [str(state_directory), build_id(), "cgroups" if use_cgroups else "no-cgroups"]
        starter = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", "-c", bootstrap, *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            start_new_session=True, env=_spawn_environment(), cwd="/",
        )  # fmt: skip
        _, errors = await starter.communicate()
        pid = await cls._adopt(state_directory)
        if pid is None and starter.returncode != ALREADY_ACTIVE:
            raise ForkServerGone(f"the fork server did not start: {errors.decode(errors='replace').strip()[-2000:]}")
        return pid


def _spawn_environment() -> dict[str, str]:
    """No credential of the agent's may reach a process above the runs."""
    path = os.environ.get("PATH")
    return {"LANG": "C.UTF-8"} if path is None else {"LANG": "C.UTF-8", "PATH": path}


@functools.cache
def build_id() -> str:
    """Names the installed code (once per agent): a fork server of another build is replaced after an upgrade."""
    package = Path(runner_agent.__file__).parent / "shim"
    digest = hashlib.sha256()
    for source in sorted(package.glob("*.py")):
        digest.update(source.read_bytes())
    return f"{protocol.PROTOCOL_VERSION}-{digest.hexdigest()[:16]}"


def _check_version(frame: codec.JsonObject) -> None:
    if not protocol.speaks_with({**frame, "oldest": frame.get("version")}):
        raise UnknownShimVersion(f"the shim speaks version {frame.get('version')}")


def _number(frame: codec.JsonObject, name: str) -> int:
    value = frame.get(name)
    if not isinstance(value, int):
        raise codec.BadMessage(f"{name} is not a number")
    return value
