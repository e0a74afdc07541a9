"""Pages of a list by key: stable while rows come and go, with a token that belongs to one list and one filter."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, func, select

from control_plane.domain.errors import ErrorCode, FieldViolation, InvalidArgument, invalid_fields
from control_plane.domain.limits import PAGE_SIZE_DEFAULT, PAGE_SIZE_LARGEST, TOTAL_SIZE_CAP
from control_plane.domain.pages import Page
from control_plane.storage.rows import AnyRow, json_text

T = TypeVar("T")

_DIGEST_BYTES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """What a caller says about a list. page_size 0 means the default of 50; above 1,000 it counts as 1,000."""

    page_size: int = 0
    page_token: str = ""
    include_total_size: bool = False

    def size(self) -> int:
        """Raises InvalidArgument for a negative page_size."""
        if self.page_size < 0:
            raise invalid_fields(FieldViolation(field="page_size", description="it must not be negative"))
        return min(self.page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_LARGEST)


def seal_key(scope: str, key: str | int) -> str:
    """The token that goes on behind `key` in the list that `scope` names (its kind and filter)."""
    body = json.dumps(key).encode()
    return base64.urlsafe_b64encode(_digest(scope, body) + body).decode().rstrip("=")


def open_key(scope: str, token: str) -> str | int:
    """The key in a token. Raises InvalidArgument PAGE_TOKEN_INVALID for a token of another list or filter."""
    try:
        raw = base64.urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
    except (binascii.Error, ValueError) as error:
        raise _not_ours() from error
    digest, body = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
    if digest != _digest(scope, body):
        raise _not_ours()
    key = json.loads(body)
    if not isinstance(key, str | int):
        raise _not_ours()
    return key


def fetch_page(
    connection: Connection,
    *,
    query: Select[Any],
    key: ColumnElement[Any],
    key_of: Callable[[T], str | int],
    build: Callable[[AnyRow], T],
    request: PageRequest,
    scope: tuple[object, ...],
    newest_first: bool = False,
) -> Page[T]:
    """One page of `query` ordered by the unique column `key`. `scope` holds the list's name and its filter."""
    size = request.size()
    name = json_text(scope)
    paged = query.order_by(key.desc() if newest_first else key).limit(size + 1)
    if request.page_token:
        last = open_key(name, request.page_token)
        paged = paged.where(key < last if newest_first else key > last)
    items = [build(row) for row in connection.execute(paged)]
    more = len(items) > size
    items = items[:size]
    total = count_rows(connection, query) if request.include_total_size else None
    return Page(
        items=tuple(items),
        next_page_token=seal_key(name, key_of(items[-1])) if more else "",
        total_size=None if total is None else min(total, TOTAL_SIZE_CAP),
        total_size_capped=total is not None and total > TOTAL_SIZE_CAP,
    )


def count_rows(connection: Connection, query: Select[Any]) -> int:
    """How many rows there are, counted no further than one past the cap."""
    some = query.limit(TOTAL_SIZE_CAP + 1).subquery()
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())


def _digest(scope: str, body: bytes) -> bytes:
    return hashlib.sha256(scope.encode() + b"\0" + body).digest()[:_DIGEST_BYTES]


def _not_ours() -> InvalidArgument:
    return InvalidArgument(
        ErrorCode.PAGE_TOKEN_INVALID, hint="Start the list again without a page token, or repeat the same filter."
    )
