"""Writes of projects, principals, tokens, join tokens and request ids."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, update

from control_plane.domain.ids import JoinTokenId, PrincipalId, ProjectId, RunnerId, TokenId
from control_plane.domain.principal import JoinToken, Principal, Token
from control_plane.domain.project import Project
from control_plane.storage.prepared import Prepared
from control_plane.storage.rows import to_us
from control_plane.storage.shapes import JOIN_TOKEN, PRINCIPAL, PROJECT, TOKEN
from control_plane.storage.tables import (
    DELIVERIES,
    FIRINGS,
    JOIN_TOKENS,
    PRINCIPALS,
    PROJECTS,
    REQUEST_IDS,
    SCHEDULES,
    TASKS,
    TOKENS,
)
from control_plane.storage.writes.changes import compare_and_set

_INSERT_REQUEST: Final = Prepared(insert(REQUEST_IDS))
_DELETE_REQUEST: Final = Prepared(
    delete(REQUEST_IDS).where(
        REQUEST_IDS.c.principal_id == bindparam("principal"),
        REQUEST_IDS.c.method == bindparam("verb"),
        REQUEST_IDS.c.request_id == bindparam("request"),
    )
)
_USE_TOKEN: Final = Prepared(
    update(TOKENS).where(TOKENS.c.id == bindparam("token")).values(last_used_at=bindparam("last_used_at"))
)


def insert_project(connection: Connection, project: Project) -> None:
    connection.execute(insert(PROJECTS), PROJECT.values(project))


def save_project(connection: Connection, old: Project, new: Project) -> bool:
    """Writes what differs while the etag is the old one's."""
    return compare_and_set(connection, PROJECTS, PROJECT.changes(old, new), {"id": old.id, "etag": old.etag})


def delete_project(connection: Connection, project_id: ProjectId) -> bool:
    """Deletes an empty project, with what nobody sees any more: deleted tasks, firings that made no run."""
    connection.execute(delete(FIRINGS).where(FIRINGS.c.project_id == project_id))
    connection.execute(delete(DELIVERIES).where(DELIVERIES.c.project_id == project_id))
    gone = TASKS.c.deleted_at.is_not(None)
    connection.execute(delete(SCHEDULES).where(SCHEDULES.c.project_id == project_id))
    connection.execute(delete(TASKS).where(TASKS.c.project_id == project_id, gone))
    return connection.execute(delete(PROJECTS).where(PROJECTS.c.id == project_id)).rowcount == 1


def insert_principal(connection: Connection, principal: Principal, *, created_by: str) -> None:
    connection.execute(insert(PRINCIPALS), PRINCIPAL.values(principal, created_by=created_by))


def save_principal(connection: Connection, old: Principal, new: Principal) -> bool:
    """Writes what differs while its name and role are the old one's."""
    guards = {"id": old.id, "name": old.name, "admin": old.admin}
    return compare_and_set(connection, PRINCIPALS, PRINCIPAL.changes(old, new), guards)


def insert_token(connection: Connection, token: Token, *, created_by: str) -> None:
    connection.execute(insert(TOKENS), TOKEN.values(token, created_by=created_by))


def revoke_token(connection: Connection, token_id: TokenId, at: datetime) -> bool:
    """False if there is no such token, or it is revoked already."""
    statement = update(TOKENS).where(TOKENS.c.id == token_id, TOKENS.c.revoked_at.is_(None))
    return connection.execute(statement.values(revoked_at=to_us(at))).rowcount == 1


def use_token(connection: Connection, token_id: TokenId, at: datetime) -> None:
    _USE_TOKEN.run(connection, {"token": token_id, "last_used_at": to_us(at)})


def insert_join_token(connection: Connection, token: JoinToken, *, secret_digest: str) -> None:
    connection.execute(insert(JOIN_TOKENS), JOIN_TOKEN.values(token, secret_digest=secret_digest, used_by=None))


def redeem_join_token(connection: Connection, token_id: JoinTokenId, runner_id: RunnerId, at: datetime) -> bool:
    """True exactly once."""
    statement = update(JOIN_TOKENS).where(JOIN_TOKENS.c.id == token_id, JOIN_TOKENS.c.used_at.is_(None))
    return connection.execute(statement.values(used_at=to_us(at), used_by=runner_id)).rowcount == 1


def delete_join_token(connection: Connection, token_id: JoinTokenId) -> bool:
    return connection.execute(delete(JOIN_TOKENS).where(JOIN_TOKENS.c.id == token_id)).rowcount == 1


def insert_request(
    connection: Connection,
    *,
    principal_id: PrincipalId,
    method: str,
    request_id: str,
    body_sha256: str,
    resource_id: str,
    at: datetime,
) -> None:
    """Remembers what a request made. An entry of the same key that has expired gives way."""
    _DELETE_REQUEST.run(connection, {"principal": principal_id, "verb": method, "request": request_id})
    _INSERT_REQUEST.run(
        connection,
        {
            "principal_id": principal_id,
            "method": method,
            "request_id": request_id,
            "body_digest": body_sha256,
            "resource_id": resource_id,
            "created_at": to_us(at),
        },
    )
