"""Verbs on API tokens. Secrets are minted above and never seen here: a token is known by its secret's SHA-256."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from control_plane.domain import limits
from control_plane.domain.errors import (
    ErrorCode,
    FailedPrecondition,
    FieldViolation,
    NotFound,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from control_plane.domain.ids import TokenId
from control_plane.domain.names import check_text
from control_plane.domain.principal import Caller, Principal, Token
from control_plane.lifecycle.house import House
from control_plane.lifecycle.requests import once, refuse, request_id_violations
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection

# A use is written down at most so often.
USE_WRITTEN_S = 60.0
LIFETIME_SHORTEST_S = 60.0
LIFETIME_LONGEST_S = 10 * 366 * 86_400.0
TOPIC = "tokens"

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """`principal` is an id or a name, empty for the caller; without a lifetime the token does not expire."""

    secret_digest: str
    principal: str = ""
    note: str = ""
    lifetime_s: float | None = None


async def create(house: House, caller: Caller, new: NewToken) -> Token:
    """A repeat by request id gives the first token, whose digest is another: its secret was shown then.

    Raises InvalidArgument, NotFound PRINCIPAL_NOT_FOUND, AlreadyExists REQUEST_ID_REUSED.
    """
    refuse(*_violations(new), *request_id_violations(caller))
    # The digest differs with every try of the same request.
    asked = (new.principal, new.note, new.lifetime_s)

    def body(connection: Connection) -> Token:
        owner = reads.the_principal(connection, new.principal or caller.principal.id)
        return once(
            connection,
            caller,
            "CreateToken",
            asked,
            now=house.clock.now(),
            kept_s=house.timing.request_id_kept_s,
            load=lambda known: reads.token(connection, TokenId(known)),
            make=lambda: insert(house, connection, owner, new, created_by=caller.principal.id),
        )

    return await house.database.write(body, name="tokens.create")


async def revoke(house: House, token_id: TokenId) -> None:
    """Again is no error. Raises NotFound, FailedPrecondition LAST_ADMIN for the last token that can administer."""

    def body(connection: Connection) -> None:
        token = reads.token(connection, token_id)
        if token is None:
            raise NotFound(ErrorCode.TOKEN_NOT_FOUND)
        now = house.clock.now()
        owner = reads.principal(connection, token.principal_id)
        if (
            owner is not None
            and owner.admin
            and is_usable(token, now)
            and reads.usable_admin_tokens(connection, now) == 1
        ):
            raise FailedPrecondition(
                ErrorCode.LAST_ADMIN,
                "It is the last token of an admin: without it nobody could administer this control plane.",
                hint="Make another admin token first.",
            )
        writes.revoke_token(connection, token_id, now)

    await house.database.write(body, name="tokens.revoke", after=lambda _: house.watch.notify(TOPIC))


async def authenticate(house: House, secret_digest: str) -> Caller:
    """Who has this token. Raises Unauthenticated: TOKEN_INVALID, _REVOKED, _EXPIRED, PRINCIPAL_DISABLED."""
    token, principal = await house.database.read(partial(_find, secret_digest))
    now = house.clock.now()
    who = (principal.id, principal.name)
    if token.revoked_at is not None:
        raise Unauthenticated(ErrorCode.TOKEN_REVOKED, principal=who)
    if token.expires_at is not None and token.expires_at <= now:
        raise Unauthenticated(ErrorCode.TOKEN_EXPIRED, principal=who)
    if principal.disabled_at is not None:
        raise Unauthenticated(ErrorCode.PRINCIPAL_DISABLED, principal=who)
    if token.last_used_at is None or now - token.last_used_at >= timedelta(seconds=USE_WRITTEN_S):
        await _write_use(house, token.id)
    return Caller(principal=principal, token_id=token.id)


def insert(house: House, connection: Connection, owner: Principal, new: NewToken, *, created_by: str) -> Token:
    """Inside a transaction of the caller's."""
    now = house.clock.now()
    token = Token(
        id=TokenId(house.clock.new_id()),
        principal_id=owner.id,
        principal_name=owner.name,
        secret_digest=new.secret_digest,
        note=new.note,
        created_at=now,
        expires_at=None if new.lifetime_s is None else now + timedelta(seconds=new.lifetime_s),
    )
    writes.insert_token(connection, token, created_by=created_by)
    return token


def _find(secret_digest: str, connection: Connection) -> tuple[Token, Principal]:
    token = reads.token_by_digest(connection, secret_digest)
    principal = None if token is None else reads.principal(connection, token.principal_id)
    if token is None or principal is None:
        raise Unauthenticated(ErrorCode.TOKEN_INVALID)
    return token, principal


async def _write_use(house: House, token_id: TokenId) -> None:
    def body(connection: Connection) -> None:
        writes.use_token(connection, token_id, house.clock.now())

    try:
        await house.database.write(body, name="tokens.use")
    except (ResourceExhausted, Unavailable):
        # With a full disk reading still works: a note of when a token was used must not stand in its way.
        return


def is_usable(token: Token, now: datetime) -> bool:
    """Whether the token opens anything now."""
    return token.revoked_at is None and (token.expires_at is None or token.expires_at > now)


def _violations(new: NewToken) -> tuple[FieldViolation, ...]:
    found = [*check_text(new.note, "note", limits.CANCEL_NOTE_BYTES)]
    if new.lifetime_s is not None and not LIFETIME_SHORTEST_S <= new.lifetime_s <= LIFETIME_LONGEST_S:
        found.append(FieldViolation(field="lifetime", description="must be from 60 s to ten years"))
    if not _SHA256.fullmatch(new.secret_digest):
        raise ValueError("secret_digest is no SHA-256")
    return tuple(found)
