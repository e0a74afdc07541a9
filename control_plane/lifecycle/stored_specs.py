"""The specs of tasks and templates as their authors wrote them: judged, encoded, and kept once by their digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from control_plane.domain.errors import FieldViolation
from control_plane.domain.spec import RunSpec
from control_plane.domain.spec_rules import validate_size, validate_spec
from control_plane.lifecycle.house import House
from control_plane.lifecycle.requests import refuse
from control_plane.storage import writes
from control_plane.storage.database import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSpec:
    """A spec in its stored form."""

    sha256: str
    data: bytes
    spec: RunSpec


def spec_violations(house: House, spec: RunSpec, path: str) -> tuple[FieldViolation, ...]:
    return validate_spec(spec, lease_s=house.timing.lease_s(0), path=path)


def encoded(house: House, spec: RunSpec, path: str) -> StoredSpec:
    """Raises InvalidArgument when it is too large."""
    data = house.codec.encode(spec)
    refuse(*validate_size(len(data), spec, path=path))
    return StoredSpec(sha256=hashlib.sha256(data).hexdigest(), data=data, spec=spec)


def keep(house: House, connection: Connection, stored: StoredSpec) -> None:
    names = tuple(stored.spec.secret_names())
    writes.insert_spec(connection, stored.sha256, stored.data, house.clock.now(), names)
