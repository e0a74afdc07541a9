"""Specs that are needed again and again: decoded once, frozen once."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from control_plane.domain.errors import FieldViolation
from control_plane.domain.ports import SpecCodec
from control_plane.domain.spec import RunSpec
from control_plane.domain.spec_rules import validate_spec, with_defaults
from control_plane.storage import reads
from control_plane.storage.database import Connection

V = TypeVar("V")

_SPECS_KEPT = 1_024
# Of their stored forms together: a thousand of the largest would be a gibibyte.
_KEPT_BYTES = 32 << 20
_SAID_KEPT = 256
_SMALL_SPEC_BYTES = 8 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenSpec:
    """A spec with its defaults written out, and its stored form."""

    sha256: str
    data: bytes
    spec: RunSpec


@dataclass(slots=True)
class _Freezing:
    """A spec as it was said and as it is frozen; under which lease nothing was found wrong with it."""

    said: RunSpec
    frozen: FrozenSpec
    fine_lease_s: float | None = None


class Kept(Generic[V]):
    """The newest values by name: so many of them, and of so many bytes together. Not for several threads."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._values: OrderedDict[str, tuple[V, int]] = OrderedDict()
        self._bytes = 0

    def get(self, name: str) -> V | None:
        known = self._values.get(name)
        return None if known is None else known[0]

    def keep(self, name: str, value: V, size_bytes: int) -> None:
        if name in self._values:
            return
        self._values[name] = (value, size_bytes)
        self._bytes += size_bytes
        while len(self._values) > self._most or self._bytes > self._most_bytes:
            self._bytes -= self._values.popitem(last=False)[1][1]


class SpecCache:
    """Decoded specs by SHA-256; they never change. Used by the reader threads and the writer's at once."""

    def __init__(self, codec: SpecCodec) -> None:
        self._codec = codec
        self._lock = threading.Lock()
        self._specs: Kept[RunSpec] = Kept(_SPECS_KEPT, _KEPT_BYTES)
        self._frozen: Kept[FrozenSpec] = Kept(_SPECS_KEPT, _KEPT_BYTES)
        # Specs that were said lately, by identity: the same words come again and again as the same value.
        self._said: OrderedDict[int, _Freezing] = OrderedDict()

    def get(self, conn: Connection, sha256: str) -> RunSpec:
        """Raises LookupError when the database has no such spec: a broken reference, never a caller's mistake."""
        with self._lock:
            known = self._specs.get(sha256)
        if known is not None:
            return known
        data = reads.spec_bytes(conn, sha256)
        if data is None:
            raise LookupError(f"no spec {sha256}")
        spec = self._codec.decode(data)
        with self._lock:
            self._specs.keep(sha256, spec, len(data))
        return spec

    def freeze(self, spec: RunSpec) -> FrozenSpec:
        known = self._known(spec)
        if known is not None:
            return known.frozen
        whole = with_defaults(spec)
        data = self._codec.encode(whole)
        frozen = FrozenSpec(sha256=hashlib.sha256(data).hexdigest(), data=data, spec=whole)
        if len(data) <= _SMALL_SPEC_BYTES:
            with self._lock:
                self._said[id(spec)] = _Freezing(spec, frozen)
                while len(self._said) > _SAID_KEPT:
                    self._said.popitem(last=False)
        return frozen

    def violations(self, spec: RunSpec, lease_s: float) -> tuple[FieldViolation, ...]:
        """Everything that is wrong with a spec; one that was fine before is not looked at again."""
        known = self._known(spec)
        if known is not None and known.fine_lease_s == lease_s:
            return ()
        found = validate_spec(spec, lease_s=lease_s)
        if known is not None and not found:
            known.fine_lease_s = lease_s
        return found

    def _known(self, spec: RunSpec) -> _Freezing | None:
        with self._lock:
            known = self._said.get(id(spec))
        return known if known is not None and known.said is spec else None

    def frozen(self, conn: Connection, sha256: str) -> FrozenSpec:
        """The frozen form of a stored spec."""
        with self._lock:
            known = self._frozen.get(sha256)
        if known is None:
            known = self.freeze(self.get(conn, sha256))
            with self._lock:
                self._frozen.keep(sha256, known, len(known.data))
        return known
