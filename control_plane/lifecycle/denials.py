"""Refused calls on their way into the audit trail: in bounded memory, written in batches, like ones counted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from control_plane.clock import Clock
from control_plane.domain.audit import AuditEvent
from control_plane.domain.errors import ResourceExhausted, Unavailable
from control_plane.lifecycle.audit import Act, append, event_of, with_asked
from control_plane.storage.database import Connection, Database

WINDOW_S: Final = 60.0
MOST: Final = 1_000
MOST_ADDRESSES: Final = 100
OTHERS: Final = "others"

_Key = tuple[str, str, str, tuple[str, ...], str, str]


@dataclass(slots=True, kw_only=True)
class _Tally:
    event: AuditEvent
    count: int = 0


class Denials:
    """The first refusal of a kind is written soon, its repeats within the minute as one entry with their count.

    Of callers that are nobody known only the count per minute, address and code is kept.
    """

    def __init__(self, database: Database, chain: str, clock: Clock) -> None:
        self._database, self._chain, self._clock = database, chain, clock
        self._began_s = clock.monotonic_s()
        self._ready: list[AuditEvent] = []
        self._tallies: dict[_Key, _Tally] = {}
        self._addresses: set[str] = set()

    def known(self, act: Act, code: str) -> None:
        """A call of a known principal was refused."""
        self._turn()
        event = event_of(act, self._chain, self._clock)
        event = replace(event, code=code, resources=with_asked(event.resources, act.asked))
        tally = self._tallies.get(_key(event))
        if tally is not None:
            tally.count += 1
            tally.event = event
        elif len(self._tallies) < MOST and self._keep(event):
            self._tallies[_key(event)] = _Tally(event=event)
        else:
            self._count(replace(event, method="", resources=(), peer=OTHERS, request_id=""))

    def unknown(self, peer: str, code: str) -> None:
        """A call was refused because nobody knows who makes it."""
        self._turn()
        if peer not in self._addresses:
            peer = peer if len(self._addresses) < MOST_ADDRESSES else OTHERS
            self._addresses.add(peer)
        self._count(AuditEvent(chain=self._chain, seq=0, at=self._clock.now(), peer=peer, code=code))

    def done(self, act: Act) -> None:
        """Something was done that wrote nothing."""
        self._keep(event_of(act, self._chain, self._clock))

    def _keep(self, event: AuditEvent) -> bool:
        """False when too many wait already."""
        if len(self._ready) >= MOST:
            return False
        self._ready.append(event)
        return True

    async def flush(self, *, final: bool = False) -> None:
        """Write what is ready; at the end also what is still being counted. What cannot be stored waits."""
        self._turn(over=final)
        events, self._ready = self._ready, []
        if not events:
            return
        try:
            await self._database.write(partial(_append_all, events), name="audit.denials")
        except (ResourceExhausted, Unavailable):
            self._ready = [*events, *self._ready]

    def _count(self, event: AuditEvent) -> None:
        # A principal has few codes, and there are few codes and addresses: this stays small beside MOST.
        if len(self._tallies) >= 2 * MOST:
            event = replace(event, principal_id="", principal="", peer=OTHERS)
        tally = self._tallies.setdefault(_key(event), _Tally(event=event))
        tally.count += 1
        tally.event = event

    def _turn(self, *, over: bool = False) -> None:
        """The counts of a minute that is over are ready; those for which there is no room are counted on."""
        now_s = self._clock.monotonic_s()
        if not over and now_s - self._began_s < WINDOW_S:
            return
        tallies, self._tallies, self._addresses = self._tallies, {}, set()
        self._began_s = now_s
        for key, tally in tallies.items():
            if tally.count and not self._keep(replace(tally.event, count=tally.count)):
                self._tallies[key] = tally


def _key(event: AuditEvent) -> _Key:
    return (event.principal_id, event.method, event.code, event.resources, event.peer, event.request_id)


def _append_all(events: list[AuditEvent], connection: Connection) -> None:
    for event in events:
        append(connection, event)
