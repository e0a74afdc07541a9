"""What all verbs on stored things share: request ids, etags, one answer for all offending fields."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol, TypeVar

from control_plane.domain.errors import Aborted, AlreadyExists, ErrorCode, FieldViolation, invalid_fields
from control_plane.domain.names import check_request_id
from control_plane.domain.principal import Caller
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection, Database


class Identified(Protocol):
    """Anything with an id."""

    @property
    def id(self) -> str: ...


FIRST_ETAG = "1"

T = TypeVar("T", bound=Identified)
U = TypeVar("U")


def once(
    connection: Connection,
    caller: Caller,
    method: str,
    asked: object,
    *,
    now: datetime,
    kept_s: float,
    load: Callable[[str], T | None],
    make: Callable[[], T],
) -> T:
    """What `make` makes; with a request id, what the first such request of this caller and method made.

    Args:
        asked: everything that the caller asked for; entities, mappings, tuples and plain values.
        kept_s: for how long a request id is remembered.
        load: the resource by its id.
    Raises:
        AlreadyExists: REQUEST_ID_REUSED, the id was used for something else, or what it made is gone.
    """
    if not caller.request_id:
        return make()
    body_sha256 = digest_of(asked)
    stored = reads.stored_request(
        connection,
        principal_id=caller.principal.id,
        method=method,
        request_id=caller.request_id,
        not_before=now - timedelta(seconds=kept_s),
    )
    if stored is not None:
        if stored.body_sha256 != body_sha256:
            raise AlreadyExists(ErrorCode.REQUEST_ID_REUSED, hint="Use a new request id for a new request.")
        known = load(stored.resource_id)
        if known is None:
            raise AlreadyExists(ErrorCode.REQUEST_ID_REUSED, "What this request made was deleted since.")
        return known
    made = make()
    writes.insert_request(
        connection,
        principal_id=caller.principal.id,
        method=method,
        request_id=caller.request_id,
        body_sha256=body_sha256,
        resource_id=made.id,
        at=now,
    )
    return made


class _Undone(Exception):
    """Undoes what a verb did."""


async def write(
    database: Database,
    body: Callable[[Connection], U],
    *,
    name: str,
    after: Callable[[U], None] | None = None,
    validate_only: bool = False,
) -> U:
    """A verb; with `validate_only` it is done and undone again: it refuses what it would refuse, and stores nothing."""
    if not validate_only:
        return await database.write(body, name=name, after=after)
    results: list[U] = []

    def undone(connection: Connection) -> None:
        results[:] = [body(connection)]
        raise _Undone

    with contextlib.suppress(_Undone):
        await database.write(undone, name=f"{name}.validate")
    return results[0]


def digest_of(asked: object) -> str:
    """SHA-256 (hex) that equal requests share."""
    text = json.dumps(_plain(asked), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def request_id_violations(caller: Caller) -> tuple[FieldViolation, ...]:
    return tuple(check_request_id(caller.request_id))


def refuse(*violations: FieldViolation) -> None:
    """Raises InvalidArgument INVALID_FIELDS that names all of `violations`; nothing when there is none."""
    if violations:
        raise invalid_fields(*violations)


def check_etag(stored: str, given: str) -> None:
    """Raises Aborted ETAG_MISMATCH unless `given` is empty or the stored one."""
    if given and given != stored:
        raise Aborted(ErrorCode.ETAG_MISMATCH, hint="Read it again, and repeat the change on what it is now.")


def require_saved(saved: bool) -> None:
    """Raises Aborted CONCURRENT_CHANGE when a compare-and-set found another row than was read."""
    if not saved:
        raise Aborted(ErrorCode.CONCURRENT_CHANGE)


def next_etag(etag: str) -> str:
    return str(int(etag) + 1)


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, datetime):
        return {"at": value.isoformat()}
    if isinstance(value, Mapping):
        return {"map": sorted((str(key), _plain(item)) for key, item in value.items())}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return {"set": sorted(str(item) for item in value)}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a request holds a {type(value).__name__}, which has no digest")
