"""The audit trail as a chain: signed heads, and a look at the whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from control_plane.clock import Clock
from control_plane.domain.audit import AuditEvent, AuditHead, ChainCheck, Findings
from control_plane.domain.errors import ErrorCode, FieldViolation, OutOfRange, invalid_fields
from control_plane.domain.ports import HeadKey
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection, Database

EVENTS_A_READ: Final = 500
SIGN_EVERY_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The trail of one server instance. `name` is the instance's id."""

    name: str
    database: Database
    clock: Clock
    key: HeadKey

    async def sign(self) -> AuditHead:
        """A signed head of the chain as it is, also kept in the database."""
        return await self.database.write(self._sign, name="audit.sign")

    async def keep_signed(self) -> None:
        """A signed head, unless nothing has come since the last."""
        end, head = await self.database.read(self._ends)
        if head is None or head.seq != end:
            await self.sign()

    async def events(self, *, after: int, to: int) -> AsyncIterator[tuple[AuditEvent, ...]]:
        """The entries behind `after` up to `to`, in parts."""
        while after < to:
            limit = min(EVENTS_A_READ, to - after)
            part = await self.database.read(partial(reads.audit_after, chain=self.name, seq=after, limit=limit))
            if not part:
                return
            yield tuple(event for event in part if event.seq <= to)
            after = part[-1].seq

    async def hash_at(self, seq: int) -> str:
        """The hash of an entry; "" before the first. Raises InvalidArgument, OutOfRange."""
        if seq < 0:
            raise invalid_fields(FieldViolation(field="after_seq", description="must not be negative"))
        if seq == 0:
            return ""
        event = await self.database.read(partial(reads.audit_event, chain=self.name, seq=seq))
        if event is None:
            raise OutOfRange(ErrorCode.OFFSET_BEYOND_END, f"The audit trail has no entry {seq}.")
        return event.hash

    async def look(self, kept: AuditHead | None = None) -> Findings:
        """Compute the whole chain anew, and hold it against its signed heads and against a head kept elsewhere."""
        check = ChainCheck(chain=self.name)
        if kept is not None:
            self._compare(check, kept)
        while True:
            events, heads = await self.database.read(partial(self._part, check.seq))
            for head in heads:
                self._judge(check, head)
                check.heads.setdefault(head.seq, head.hash)
            if not events:
                break
            for event in events:
                check.take(event)
        check.ended()
        return Findings(checked=check.checked, faults=tuple(check.faults), head=self._signed(check.seq, check.hash))

    def _part(self, after: int, connection: Connection) -> tuple[tuple[AuditEvent, ...], tuple[AuditHead, ...]]:
        """Some entries, and the heads that name one of them; behind the last entry the heads that name none."""
        events = reads.audit_after(connection, self.name, after, EVENTS_A_READ)
        heads = reads.audit_heads(connection, self.name, after, EVENTS_A_READ)
        if events:
            heads = tuple(head for head in heads if head.seq <= events[-1].seq)
        return events, heads

    def _compare(self, check: ChainCheck, kept: AuditHead) -> None:
        if kept.chain != self.name:
            check.found(0, f"the head is of another chain: {kept.chain}")
            return
        if kept.signature:
            self._judge(check, kept)
        check.heads[kept.seq] = kept.hash

    def _judge(self, check: ChainCheck, head: AuditHead) -> None:
        if not self.key.is_signed(head.signature, head.signed_text()):
            check.found(head.seq, "a head of this number is not signed with this server's key")

    def _ends(self, connection: Connection) -> tuple[int, AuditHead | None]:
        return reads.audit_end(connection, self.name)[0], reads.newest_audit_head(connection, self.name)

    def _sign(self, connection: Connection) -> AuditHead:
        head = self._signed(*reads.audit_end(connection, self.name))
        known = reads.newest_audit_head(connection, self.name)
        if known is None or known.seq < head.seq:
            writes.insert_audit_head(connection, head)
        return head

    def _signed(self, seq: int, digest: str) -> AuditHead:
        head = AuditHead(chain=self.name, seq=seq, hash=digest, at=self.clock.now(), public_key=self.key.public_key)
        return replace(head, signature=self.key.sign(head.signed_text()))
