"""All attempts of this host: their actors and their logs, by key."""

from __future__ import annotations

import asyncio

from runner_agent.domain.ids import AttemptKey
from runner_agent.domain.log import LogChunk
from runner_agent.domain.log_flow import LogTurn
from runner_agent.execution.execution import Execution
from runner_agent.execution.inventory import Found
from runner_agent.execution.journal import Notes
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
        # Those that lived when this agent started, and have not been found again yet.
        self._lost_sight_of: set[AttemptKey] = set()
        self._log = logger("attempts")

    def adopt(self, found: Found) -> None:
        """Take over what an earlier agent has left."""
        if found.live:
            self._lost_sight_of.add(found.held.key)
        self._new(found.held.key, found.notes).adopt(attach=found.live, over=found.held.exit)

    def of(self, key: AttemptKey) -> Execution:
        """The actor of an attempt."""
        actor = self._actors.get(key)
        return actor if actor is not None else self._new(key)

    def _new(self, key: AttemptKey, notes: Notes | None = None) -> Execution:
        actor = self._actors[key] = Execution(
            key, self._room, self._tasks, self._over, notes=notes, found=self._found
        )  # fmt: skip
        return actor

    def _found(self, key: AttemptKey) -> None:
        if key in self._lost_sight_of:
            self._lost_sight_of.discard(key)
            if not self._lost_sight_of:
                self._log.info("all_found_again", message="every run that lived at the start is held again, or over")

    def _over(self, key: AttemptKey) -> None:
        self._actors.pop(key, None)

    def abandon(self) -> None:
        """Let go of everything; what lives goes on under its shims."""
        for actor in tuple(self._actors.values()):
            actor.abandon()
        self._room.threads.close()
        self._room.journal.close()
        self._room.removal.close()

    async def read_log(self, turn: LogTurn, final_offset: int | None) -> LogChunk | None:
        """The log bytes of a turn; None if there is nothing to read, or it cannot be read."""
        source = self._source(turn.key)
        source.final_offset = final_offset
        try:
            return await source.read(turn)
        except (OSError, BadMessage) as error:
            self._log.warning("log_not_read", error=str(error), run=turn.key.run_id, epoch=turn.key.lease_epoch)
            return None
        except Exception as error:  # noqa: BLE001 - the other attempts' logs go on, in the same session
            self._log.error("log_not_read", exc_info=error, run=turn.key.run_id, epoch=turn.key.lease_epoch)
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
        except Exception as error:  # noqa: BLE001 - a spool that stays large must not end the agent
            self._log.error("spool_not_retired", exc_info=error)

    def _source(self, key: AttemptKey) -> LogSource:
        source = self._logs.get(key)
        if source is None:
            directory = self._room.state.path_of(key.run_id, key.lease_epoch)
            source = self._logs[key] = LogSource(key, directory)
        return source
