"""The audit trail's entries: who did what, stored in the transaction of the deed itself."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Final

from control_plane.clock import Clock
from control_plane.domain.audit import MOST_RESOURCES, AuditEvent, hash_of
from control_plane.domain.case import Case
from control_plane.domain.copies import replace
from control_plane.domain.runner import Runner
from control_plane.domain.secret import Secret
from control_plane.storage import reads, writes
from control_plane.storage.database import Beside, Connection

_TOKEN: Final = re.compile(r"bnk_[A-Za-z]+_[A-Za-z0-9._-]+")
_HIDDEN: Final = "[hidden]"
_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
MOST_CHARACTERS: Final = 255


@dataclass(slots=True, kw_only=True)
class Act:
    """One call under way: who makes it, and what it has turned out to be about so far.

    `entered`: what is written under it leaves an entry. Not so a runner's session: its words are in the runs' events.
    """

    method: str
    peer: str
    principal_id: str = ""
    principal: str = ""
    admin: bool = False
    request_id: str = ""
    entered: bool = True
    # What the request names, `kind/text`: said where no thing of the kind was found.
    asked: tuple[str, ...] = ()
    resources: dict[str, None] = field(default_factory=dict)

    def touch(self, thing: object) -> None:
        """It is about this thing, too: an entity, or `kind/id`."""
        found = (thing,) if isinstance(thing, str) else named(thing)
        for resource in found:
            if len(self.resources) < MOST_RESOURCES:
                self.resources[clean(resource)] = None


_ACT: ContextVar[Act | None] = ContextVar("act", default=None)


def begin(act: Act | None) -> None:
    """From here on this task works for this call; None: for nobody's."""
    _ACT.set(act)


def current() -> Act | None:
    return _ACT.get()


def touch(thing: object) -> None:
    """The call under way, if there is one, is about this thing, too."""
    act = _ACT.get()
    if act is not None:
        act.touch(thing)


class Witness:
    """Asked by the database with each write: what a caller's deed leaves in the trail beside itself."""

    def __init__(self, chain: str, clock: Clock) -> None:
        self._chain, self._clock = chain, clock

    def __call__(self) -> Beside | None:
        act = _ACT.get()
        if act is None or not act.entered:
            return None
        return partial(self._enter, event_of(act, self._chain, self._clock), act.asked)

    def _enter(self, event: AuditEvent, asked: tuple[str, ...], connection: Connection, result: object) -> None:
        runner = getattr(result, "runner", None)
        if not event.principal_id and isinstance(runner, Runner):
            # It has just come by its identity.
            event = replace(event, principal_id=runner.id, principal=runner.name)
        found = dict.fromkeys((*event.resources, *(clean(each) for each in named(result))))
        append(connection, replace(event, resources=with_asked(tuple(found), asked)))


def event_of(act: Act, chain: str, clock: Clock) -> AuditEvent:
    """An entry for the call as it is now, without its place in the chain."""
    return AuditEvent(
        chain=chain,
        seq=0,
        at=clock.now(),
        principal_id=act.principal_id,
        principal=act.principal,
        method=act.method,
        resources=tuple(act.resources),
        peer=clean(act.peer),
        request_id=clean(act.request_id),
    )


def with_asked(found: tuple[str, ...], asked: tuple[str, ...]) -> tuple[str, ...]:
    """What was found, and what was asked for of other kinds."""
    kinds = {each.partition("/")[0] for each in found}
    return (*found, *(each for each in asked if each.partition("/")[0] not in kinds))[:MOST_RESOURCES]


def append(connection: Connection, event: AuditEvent) -> None:
    """Gives the entry its place at the end of its chain. Inside a transaction of the caller's."""
    seq, before = reads.audit_end(connection, event.chain)
    event = replace(event, seq=seq + 1)
    writes.append_audit(connection, replace(event, hash=hash_of(event, before)))


def clean(text: str) -> str:
    """What a caller wrote, without anything that is shaped like a token, and not too long."""
    return _TOKEN.sub(_HIDDEN, text.encode(errors="replace").decode())[:MOST_CHARACTERS]


def named(thing: object) -> Iterator[str]:
    """`kind/id` of an entity, and of each entity in a verb's result."""
    if isinstance(thing, Secret):
        yield f"secret/{thing.name}"
    elif isinstance(thing, Case):
        yield f"run/{thing.run.id}"
    elif isinstance(thing, tuple | list):
        for each in thing:
            yield from named(each)
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        kind, is_entity, parts = _kind(type(thing))
        if is_entity:
            yield f"{kind}/{getattr(thing, 'id', '')}"
        for part in parts:
            yield from named(getattr(thing, part))


@cache
def _kind(of: type) -> tuple[str, bool, tuple[str, ...]]:
    """How things of this class are called; whether they are entities; in which fields of a result entities lie."""
    names = tuple(each.name for each in dataclasses.fields(of))
    floor = of.__module__.split(".")[1:2]
    is_entity = floor == ["domain"] and "id" in names
    return _WORD.sub("_", of.__name__).lower(), is_entity, names if floor == ["lifecycle"] else ()
