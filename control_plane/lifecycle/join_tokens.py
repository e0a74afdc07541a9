"""Verbs on join tokens: what a runner shows once to be enrolled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from control_plane.domain.errors import ErrorCode, FieldViolation, NotFound
from control_plane.domain.ids import JoinTokenId
from control_plane.domain.names import check_label_value, check_labels
from control_plane.domain.principal import Caller, JoinToken
from control_plane.lifecycle.house import House
from control_plane.lifecycle.principals import find_projects
from control_plane.lifecycle.requests import refuse
from control_plane.storage import writes
from control_plane.storage.database import Connection

LIFETIME_DEFAULT_S = 15 * 60.0
LIFETIME_SHORTEST_S = 1.0
LIFETIME_LONGEST_S = 7 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJoinToken:
    """No granted labels mean any, no allowed projects (ids or names) all, no lifetime 15 minutes."""

    secret_digest: str
    pool: str = ""
    granted_labels: Mapping[str, str] = field(default_factory=dict)
    allowed_projects: tuple[str, ...] = ()
    lifetime_s: float | None = None


async def create(house: House, caller: Caller, new: NewJoinToken) -> JoinToken:
    """Raises InvalidArgument with every offending field."""
    lifetime_s = LIFETIME_DEFAULT_S if new.lifetime_s is None else new.lifetime_s
    wrong = [*check_labels(new.granted_labels, "granted_labels"), *check_label_value(new.pool, "pool")]
    if not LIFETIME_SHORTEST_S <= lifetime_s <= LIFETIME_LONGEST_S:
        wrong.append(FieldViolation(field="lifetime", description="must be from 1 s to 7 days"))

    def body(connection: Connection) -> JoinToken:
        project_ids, unknown = find_projects(connection, new.allowed_projects, "allowed_projects")
        refuse(*wrong, *unknown)
        now = house.clock.now()
        token = JoinToken(
            id=JoinTokenId(house.clock.new_id()),
            pool=new.pool,
            granted_labels=dict(new.granted_labels),
            allowed_project_ids=project_ids,
            created_by=caller.principal.id,
            created_at=now,
            expires_at=now + timedelta(seconds=lifetime_s),
        )
        writes.insert_join_token(connection, token, secret_digest=new.secret_digest)
        return token

    return await house.database.write(body, name="join_tokens.create")


async def delete(house: House, token_id: JoinTokenId) -> None:
    """Raises NotFound JOIN_TOKEN_NOT_FOUND. Runners that have joined with it stay."""

    def body(connection: Connection) -> None:
        if not writes.delete_join_token(connection, token_id):
            raise NotFound(ErrorCode.JOIN_TOKEN_NOT_FOUND)

    await house.database.write(body, name="join_tokens.delete")
