"""Hand an attempt to a shim, by the fork server that is there or, if that one has just died, by another one."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from runner_agent.domain.outputs import Fork
from runner_agent.execution.room import Room
from runner_agent.execution.shim_link import (
    AttemptStart,
    ForkServer,
    ForkServerGone,
    NothingHandedOver,
    Reservation,
    ShimLink,
)
from runner_agent.launchers import command
from runner_agent.shim.codec import BadMessage

Done = Callable[[ShimLink | Exception], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """One attempt's. `spawn` has something done beside everything else; `done` gets the link, or why there is none."""

    room: Room
    directory: Path
    output: Fork
    spawn: Callable[[Coroutine[None, None, None], str], object]
    done: Done
    reserved: Reservation | None = None

    def begin(self) -> None:
        """Give it to the shim that waits for it, or ask for one. After any failure nothing is known to run: settle.

        One that waits is also taken when its fork server has died since: it would live on unguarded either way.
        """
        if self.reserved is not None and self.reserved.begin(self._start(), partial(self._answered, None)):
            return
        fork_server = self.room.fork_servers.current()
        if fork_server is None:
            self.spawn(self._by_another(None), "fork")
        else:
            fork_server.begin(self.directory, self._start(), partial(self._answered, fork_server))

    def _answered(self, fork_server: ForkServer | None, told: ShimLink | Exception) -> None:
        """One that has just died is not asked again; another one is, once."""
        if isinstance(told, NothingHandedOver):
            self.spawn(self._by_another(fork_server), "fork")
        else:
            self.done(told)

    async def _by_another(self, gone: ForkServer | None) -> None:
        try:
            fork_server = await self.room.fork_servers.get(instead_of=gone)
        except (ForkServerGone, TimeoutError, OSError, BadMessage) as error:
            self.done(error)
        else:
            fork_server.begin(self.directory, self._start(), self.done)

    def _start(self) -> AttemptStart:
        place = self.room.workspaces.place(self.directory.name)
        surroundings = command.Surroundings(
            work=place.work,
            scripts=place.scripts,
            runner_name=self.room.runner_name,
            cookie=secrets.token_hex(16),
            base_env=self.room.base_env,
        )
        return command.attempt_start(
            self.output.assignment,
            surroundings,
            loss_deadline_boottime_ns=self.output.loss_deadline_boot_ns,
            start_timeout_s=self.output.start_timeout_s,
        )
