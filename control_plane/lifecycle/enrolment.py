"""How a build host becomes a runner: a join token is redeemed once, and the host's own key becomes its identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from control_plane.domain.case import Case
from control_plane.domain.errors import (
    AlreadyExists,
    ErrorCode,
    FailedPrecondition,
    FieldViolation,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from control_plane.domain.ids import RunnerId
from control_plane.domain.names import check_labels, check_name
from control_plane.domain.principal import JoinToken
from control_plane.domain.runner import Runner
from control_plane.lifecycle import attempts
from control_plane.lifecycle.house import House
from control_plane.lifecycle.requests import refuse, require_saved
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection

PUBLIC_KEY_BYTES = 32
# What an agent says of its host by itself is a fact, no claim: it needs no grant.
FACTS = frozenset({"os", "arch", "hostname"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """What a host says when it joins; the signature over it was checked. `join_digest` is the token's SHA-256."""

    join_digest: str
    name: str
    public_key: bytes
    labels: Mapping[str, str] = field(default_factory=dict)
    # Take over the name of a runner: its key no longer counts.
    replace: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Joined:
    runner: Runner
    withdrawn: tuple[Case, ...] = ()


async def enrol(house: House, asked: Enrolment) -> Runner:
    """Redeem the join token. The same host with the same key may ask again: its first answer may have been lost.

    Raises InvalidArgument, Unauthenticated JOIN_TOKEN_INVALID, FailedPrecondition JOIN_TOKEN_USED or
    LABEL_NOT_GRANTED, AlreadyExists RUNNER_NAME_TAKEN.
    """
    wrong = [*check_name(asked.name, "name"), *check_labels(asked.labels, "labels")]
    if len(asked.public_key) != PUBLIC_KEY_BYTES:
        description = f"must be {PUBLIC_KEY_BYTES} bytes, is {len(asked.public_key)}"
        wrong.append(FieldViolation(field="public_key", description=description))
    refuse(*wrong)

    def after(joined: _Joined) -> None:
        house.told(joined.withdrawn)
        house.watch.notify(f"runner:{joined.runner.id}", "queue")

    joined = await house.database.write(partial(_enrol, house, asked), name="runners.enrol", after=after)
    return joined.runner


async def renew(house: House, runner_id: RunnerId) -> Runner:
    """The runner whose signature was checked. Raises NotFound, PermissionDenied RUNNER_REVOKED."""
    runner = await house.database.read(partial(reads.runner, runner_id=runner_id))
    if runner is None:
        raise NotFound(ErrorCode.RUNNER_NOT_FOUND)
    if runner.revoked_at is not None:
        raise PermissionDenied(ErrorCode.RUNNER_REVOKED)
    return runner


def not_granted(labels: Mapping[str, str], granted: Mapping[str, str]) -> tuple[str, ...]:
    """Keys of the claimed labels that were not granted; without granted labels all are."""
    if not granted:
        return ()
    return tuple(sorted(key for key, value in labels.items() if key not in FACTS and granted.get(key) != value))


def _enrol(house: House, asked: Enrolment, connection: Connection) -> _Joined:
    token = reads.join_token_by_digest(connection, asked.join_digest)
    now = house.clock.now()
    if token is None or (token.used_at is None and token.expires_at <= now):
        raise Unauthenticated(
            ErrorCode.JOIN_TOKEN_INVALID, hint="Ask an admin for a new one: banksman runner join-token"
        )
    if token.used_at is not None:
        return _Joined(runner=_again(connection, asked, token))
    if missing := not_granted(asked.labels, token.granted_labels):
        raise FailedPrecondition(
            ErrorCode.LABEL_NOT_GRANTED,
            f"The join token does not grant the labels {', '.join(missing)}.",
            metadata={"labels": ",".join(missing)},
        )
    known = reads.find_runner(connection, asked.name)
    if known is not None and not asked.replace:
        raise AlreadyExists(
            ErrorCode.RUNNER_NAME_TAKEN,
            f"A runner {asked.name!r} is enrolled already.",
            hint="Choose another name, or join with --replace if this host takes its place.",
        )
    joined = (
        _new(house, connection, asked, token) if known is None else _replaced(house, connection, known, asked, token)
    )
    writes.redeem_join_token(connection, token.id, joined.runner.id, now)
    return joined


def _again(connection: Connection, asked: Enrolment, token: JoinToken) -> Runner:
    """The token was used: by this very host it may be shown once more, by another never."""
    runner_id = reads.redeemed_by(connection, token.id)
    runner = None if runner_id is None else reads.runner(connection, runner_id)
    if runner is None or runner.name != asked.name or runner.public_key != asked.public_key:
        raise FailedPrecondition(
            ErrorCode.JOIN_TOKEN_USED, hint="Each runner needs a join token of its own: banksman runner join-token"
        )
    if runner.revoked_at is not None:
        raise PermissionDenied(ErrorCode.RUNNER_REVOKED)
    return runner


def _new(house: House, connection: Connection, asked: Enrolment, token: JoinToken) -> _Joined:
    now = house.clock.now()
    runner = Runner(
        id=RunnerId(house.clock.new_id()),
        name=asked.name,
        pool=token.pool,
        labels=dict(asked.labels),
        granted_labels=dict(token.granted_labels),
        allowed_project_ids=token.allowed_project_ids,
        public_key=asked.public_key,
        created_at=now,
        disconnected_since=now,
    )
    writes.insert_runner(connection, runner, created_by=token.created_by)
    return _Joined(runner=runner)


def _replaced(house: House, connection: Connection, old: Runner, asked: Enrolment, token: JoinToken) -> _Joined:
    """The name goes to another host: the old one's key and credentials are void, what it was offered is taken back."""
    new = replace(
        old,
        pool=token.pool,
        labels=dict(asked.labels),
        granted_labels=dict(token.granted_labels),
        allowed_project_ids=token.allowed_project_ids,
        public_key=asked.public_key,
        credential_generation=old.credential_generation + 1,
        revoked_at=None,
        draining=False,
    )
    require_saved(writes.save_runner(connection, old, new))
    withdrawn = attempts.withdraw_offers_in(house, connection, old.id, "another host took over its name")
    return _Joined(runner=new, withdrawn=withdrawn)
