"""All attempts of this host: their actors and their logs, by key."""

from __future__ import annotations

import asyncio

from runner_agent.domain.events import Quarantined
from runner_agent.domain.exit_report import ExitReport
from runner_agent.domain.ids import AttemptKey
from runner_agent.domain.log import LogChunk
from runner_agent.domain.log_flow import LogTurn
from runner_agent.execution.execution import Execution
from runner_agent.execution.inventory import Found
from runner_agent.execution.log_source import LogSource
from runner_agent.execution.room import Room
from runner_agent.shim.codec import BadMessage
from runner_agent.telemetry import logger


class Attempts:
    """Starts an actor when an attempt is first spoken of; it ends when the attempt is forgotten."""

    def __init__(self, room: Room, tasks: asyncio.TaskGroup) -> None:
        self._room = room
        self._tasks = tasks
        self._actors: dict[AttemptKey, Execution] = {}
        self._logs: dict[AttemptKey, LogSource] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._log = logger("attempts")

    def adopt(self, found: Found) -> None:
        """Take over what an earlier agent has left."""
        self._start(Execution(found.held.key, self._room, notes=found.notes), attach=found.live, over=found.held.exit)

    def of(self, key: AttemptKey) -> Execution:
        """The actor of an attempt."""
        actor = self._actors.get(key)
        return actor if actor is not None else self._start(Execution(key, self._room))

    def _start(self, actor: Execution, *, attach: bool = False, over: ExitReport | None = None) -> Execution:
        self._actors[actor.key] = actor
        task = self._tasks.create_task(self._run(actor, attach, over), name=f"attempt {actor.key}")
        self._running.add(task)
        task.add_done_callback(lambda done: self._ended(actor, done))
        return actor

    async def _run(self, actor: Execution, attach: bool, over: ExitReport | None) -> None:
        try:
            await actor.run(attach=attach, over=over)
        except Exception as error:  # noqa: BLE001 - one attempt's fault must not end the others; it is told and kept
            self._log.error("attempt_broke", run=actor.key.run_id, epoch=actor.key.lease_epoch, exc_info=error)
            await self._room.post(Quarantined(key=actor.key, message=f"the agent cannot carry on with it: {error}"))

    def abandon(self) -> None:
        """Let go of everything; what lives goes on under its shims."""
        for task in self._running:
            task.cancel()
        self._room.threads.close()

    def _ended(self, actor: Execution, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if self._actors.get(actor.key) is actor:
            del self._actors[actor.key]

    async def read_log(self, turn: LogTurn, final_offset: int | None) -> LogChunk | None:
        """The log bytes of a turn; None if there is nothing to read, or it cannot be read."""
        source = self._source(turn.key)
        source.final_offset = final_offset
        try:
            return await source.read(turn)
        except (OSError, BadMessage) as error:
            self._log.warning("log_not_read", error=str(error), run=turn.key.run_id, epoch=turn.key.lease_epoch)
            return None

    def log_acked(self, key: AttemptKey, committed_offset: int) -> None:
        """The server has the log below this offset: its spool may shrink."""
        source = self._logs.get(key)
        if source is not None and source.may_retire(committed_offset):
            self._tasks.create_task(self._retire(source, committed_offset), name=f"retire spool {key}")

    def close_log(self, key: AttemptKey) -> None:
        """Nobody reads this log for now."""
        source = self._logs.pop(key, None)
        if source is not None:
            source.close()

    async def _retire(self, source: LogSource, committed_offset: int) -> None:
        try:
            await source.retire(committed_offset)
        except (OSError, BadMessage) as error:
            self._log.warning("spool_not_retired", error=str(error))

    def _source(self, key: AttemptKey) -> LogSource:
        source = self._logs.get(key)
        if source is None:
            directory = self._room.state.path_of(key.run_id, key.lease_epoch)
            source = self._logs[key] = LogSource(key, directory)
        return source
