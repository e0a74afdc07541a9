"""Dial, be known, run a session, and come back for ever: full jitter between 0.5 and 20 s."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import grpc

from runner_agent.clock import Clock
from runner_agent.domain import backoff
from runner_agent.outbox import Outbox
from runner_agent.session.channel import Unreachable, connect, open_channel
from runner_agent.session.enrolment import Enrolment
from runner_agent.session.refusals import if_revoked, is_auth, sentence_of
from runner_agent.session.session import Session, SessionEnd, SessionHost
from runner_agent.telemetry import logger

SUPERSEDED = "superseded"
SUPERSEDED_S = 5.0
# Longer would let runs with the shortest lost_after end while another host keeps us out.
SUPERSEDED_LONGEST_S = 15.0


class Connection:
    """Keeps a session open, whatever happens to the network or the server."""

    def __init__(
        self,
        *,
        server: str,
        insecure: bool,
        enrolment: Enrolment,
        host: SessionHost,
        clock: Clock,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._server = server
        self._insecure = insecure
        self._enrolment = enrolment
        self._host = host
        self._clock = clock
        self._chance = chance
        self._log = logger("session")
        self._state = ""
        self._failures = 0
        self._superseded = 0
        self._renew = False
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Do not come back after the session that is open now."""
        self._stopped.set()

    async def run(self) -> None:
        """Until it is stopped. Raises Refused when the server will not have this runner."""
        while not self._stopped.is_set():
            began_ns = self._clock.boottime_ns()
            end = await self._once()
            if self._stopped.is_set():
                return
            lived_s = (self._clock.boottime_ns() - began_ns) / 1e9
            await self._pause(self._pause_s(end, lived_s))

    async def _pause(self, pause_s: float) -> None:
        """Wait, unless it is stopped meanwhile."""
        try:
            async with asyncio.timeout(pause_s):
                await self._stopped.wait()
        except TimeoutError:
            return

    async def _once(self) -> SessionEnd | None:
        channel = open_channel(self._server, insecure=self._insecure)
        try:
            await connect(channel)
            credential = await self._enrolment.credential(channel, renew=self._renew)
            self._renew = False
            self._tell("connected", f"Connected to {self._server}.")
            end = await self._talk(channel, credential)
        except Unreachable as error:
            self._tell("unreachable", f"The server at {self._server} cannot be reached: {error}; trying on.")
            return None
        except OSError as error:
            self._tell("no credential", f"The credential cannot be written to {self._enrolment.path}: {error}.")
            return None
        except grpc.aio.AioRpcError as error:
            said = f"The server at {self._server} says: {sentence_of(error).rstrip('.')}."
            if is_auth(error):
                said += (
                    " If that stays so, it does not know this runner (a backup from before it joined was restored):"
                    f" remove {self._enrolment.path} and join anew."
                )
            self._tell(f"failing {error.code().name}", said)
            return None
        finally:
            await channel.close()
        if end is not None and not self._stopped.is_set():
            self._judge(end)
        return end

    async def _talk(self, channel: grpc.aio.Channel, credential: str) -> SessionEnd | None:
        """One session; None when it broke on something unexpected, which must not end who watches over the attempts."""
        try:
            return await Session(channel, credential, self._host, Outbox(self._clock.boottime_ns)).run()
        except Exception as error:  # noqa: BLE001 - whatever a message did, the next session begins anew
            self._log.error("session_broke", exc_info=error)
            self._tell("broken", "The session broke on a mistake of this agent; reconnecting.")
            return None

    def _judge(self, end: SessionEnd) -> None:
        """What the end of a session means for the next one. Raises Refused."""
        if end.error is not None and (refused := if_revoked(end.error, self._enrolment.path)) is not None:
            raise refused
        if end.error is not None and is_auth(end.error):
            self._renew = True
            self._tell("credential refused", f"The credential was refused ({sentence_of(end.error)}); renewing it.")
        elif SUPERSEDED in end.reason.lower():
            self._tell(
                "superseded",
                "Another agent with this runner's credential has taken the session; if that is not a restart of this "
                "one, two hosts share one identity: enrol them apart.",
            )
        else:
            self._tell(f"disconnected {end.reason}", f"Disconnected: {end.reason}; reconnecting.")

    def _pause_s(self, end: SessionEnd | None, lived_s: float) -> float:
        if end is not None and SUPERSEDED in end.reason.lower():
            # While we lived somebody else took our place: do not snatch it back and forth.
            self._superseded += 1
            return min(SUPERSEDED_LONGEST_S, SUPERSEDED_S * self._superseded) * (1.0 + self._chance())
        if end is not None:
            self._superseded = 0
        if end is not None and end.parting is not None and end.parting.reconnect_after_s is not None:
            self._failures = 0
            return end.parting.reconnect_after_s + self._chance() * end.parting.jitter_s
        if end is not None and end.welcomed:
            # A session that did its work and broke is no failure to connect: come back at once, the first time.
            self._failures = 0 if lived_s > backoff.STEADY_S else min(self._failures, 1)
        self._failures += 1
        return backoff.delay_s(self._failures - 1, self._chance())

    def _tell(self, state: str, sentence: str) -> None:
        """One line per change of state, not per try."""
        if state != self._state:
            self._state = state
            self._log.info("connection", state=state, message=sentence)
