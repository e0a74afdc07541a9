"""The audit trail: what an entry says, how entries are chained, and what breaks the chain. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

# What the first entry of a chain stands behind.
BEGINNING: Final = ""
MOST_FAULTS: Final = 100
MOST_RESOURCES: Final = 1_000
OK: Final = "OK"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One thing that was done, or one or more like calls that were refused.

    `chain` is the server instance. `seq` counts from 1. `resources` are `kind/id`. `code` is OK or the error's code.
    `count` is above 1 only where like refusals share an entry. `hash` covers all other fields and the hash before.
    """

    chain: str
    seq: int
    at: datetime
    principal_id: str = ""
    principal: str = ""
    method: str = ""
    resources: tuple[str, ...] = ()
    peer: str = ""
    request_id: str = ""
    code: str = OK
    count: int = 1
    hash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditHead:
    """How far a chain has come. Kept elsewhere it shows that nothing before it was cut off or written anew.

    `signature` is the server's Ed25519 signature of `signed_text`, in hex, with the key of `public_key`.
    """

    chain: str
    seq: int
    hash: str
    at: datetime
    signature: str = ""
    public_key: str = ""

    def signed_text(self) -> bytes:
        """What the signature covers."""
        return f"banksman-audit-head\n{self.chain}\n{self.seq}\n{self.hash}\n{written(self.at)}".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFault:
    """Where a chain is broken, and how. `seq` 0: not at one entry."""

    seq: int
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a look at a whole chain has found; `head` is where it ended."""

    checked: int
    faults: tuple[AuditFault, ...]
    head: AuditHead


def written(at: datetime) -> str:
    """An instant as exports and hashes have it: UTC, to the microsecond."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def as_data(event: AuditEvent) -> dict[str, object]:
    """The fields that the hash covers, by the names that an export has."""
    return {
        "chain": event.chain,
        "seq": event.seq,
        "at": written(event.at),
        "principal_id": event.principal_id,
        "principal": event.principal,
        "method": event.method,
        "resources": list(event.resources),
        "peer": event.peer,
        "request_id": event.request_id,
        "code": event.code,
        "count": event.count,
    }


def head_data(head: AuditHead) -> dict[str, object]:
    """A head by the names that an export has."""
    return {
        "chain": head.chain,
        "seq": head.seq,
        "hash": head.hash,
        "at": written(head.at),
        "signature": head.signature,
        "public_key": head.public_key,
    }


def line_of(data: dict[str, object]) -> str:
    """One line of JSON; equal data give equal lines."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def hash_of(event: AuditEvent, before: str) -> str:
    """The entry's hash behind the entry whose hash is `before`."""
    return hashlib.sha256(f"{before}\n{line_of(as_data(event))}".encode()).hexdigest()


@dataclass(slots=True, kw_only=True)
class ChainCheck:
    """Takes the entries of one chain in their order and remembers what is wrong.

    `heads` are hashes by number, of which somebody once said that the chain had them.
    """

    chain: str
    seq: int = 0
    hash: str = BEGINNING
    heads: dict[int, str] = field(default_factory=dict)
    checked: int = 0
    faults: list[AuditFault] = field(default_factory=list)

    def take(self, event: AuditEvent) -> None:
        """The next entry."""
        self.checked += 1
        if event.seq != self.seq + 1:
            self.found(event.seq, f"it stands behind number {self.seq}: entries are missing or out of order")
        if event.chain != self.chain or event.hash != hash_of(event, self.hash):
            self.found(event.seq, "its hash does not fit what it says and what stands before it: it was changed")
        known = self.heads.pop(event.seq, None)
        if known is not None and known != event.hash:
            self.found(event.seq, "a head that was kept names another hash for it: the chain was written anew")
        self.seq, self.hash = event.seq, event.hash

    def ended(self) -> None:
        """There is no further entry."""
        for seq in sorted(self.heads):
            if seq > self.seq:
                self.found(seq, f"a head that was kept names it, but the chain ends at {self.seq}: its end was cut off")
            elif seq:
                self.found(seq, "a head that was kept names it, but it is not there")

    def found(self, seq: int, description: str) -> None:
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(AuditFault(seq=seq, description=description))
