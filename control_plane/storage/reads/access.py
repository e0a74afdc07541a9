"""Reads of projects, principals, tokens, join tokens and request ids."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, exists, func, or_, select

from control_plane.domain.ids import JoinTokenId, PrincipalId, ProjectId, RunnerId, TokenId
from control_plane.domain.pages import Page
from control_plane.domain.principal import JoinToken, Principal, PrincipalKind, Token
from control_plane.domain.project import DEFAULT_PROJECT_NAME, Project
from control_plane.storage.paging import PageRequest, fetch_page
from control_plane.storage.prepared import Prepared
from control_plane.storage.rows import AnyRow, to_us
from control_plane.storage.shapes import JOIN_TOKEN, PRINCIPAL, PROJECT, TOKEN
from control_plane.storage.tables import (
    JOIN_TOKENS,
    PRINCIPALS,
    PROJECTS,
    REQUEST_IDS,
    RUNS,
    SCHEDULES,
    SECRETS,
    TASKS,
    TEMPLATES,
    TOKENS,
)

_PROJECTS: Final = select(*PROJECT.columns)
_PROJECT: Final = Prepared(_PROJECTS.where(PROJECTS.c.id == bindparam("id")))
_FIND_PROJECT: Final = Prepared(
    _PROJECTS.where(or_(PROJECTS.c.id == bindparam("text"), PROJECTS.c.name == bindparam("text")))
)
_PRINCIPALS: Final = select(*PRINCIPAL.columns)
_TOKENS: Final = select(*TOKEN.columns, PRINCIPALS.c.name).join(PRINCIPALS, PRINCIPALS.c.id == TOKENS.c.principal_id)
_TOKEN_BY_DIGEST: Final = Prepared(_TOKENS.where(TOKENS.c.secret_digest == bindparam("digest")))
_PRINCIPAL: Final = Prepared(_PRINCIPALS.where(PRINCIPALS.c.id == bindparam("id")))
_JOIN_TOKENS: Final = select(*JOIN_TOKEN.columns)
_REQUEST: Final = Prepared(
    select(REQUEST_IDS.c.body_digest, REQUEST_IDS.c.resource_id).where(
        REQUEST_IDS.c.principal_id == bindparam("principal_id"),
        REQUEST_IDS.c.method == bindparam("method"),
        REQUEST_IDS.c.request_id == bindparam("request_id"),
        REQUEST_IDS.c.created_at >= bindparam("not_before"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRequest:
    """What a request with an id made, and the digest of what it asked for."""

    body_sha256: str
    resource_id: str


def project(connection: Connection, project_id: ProjectId) -> Project | None:
    row = _PROJECT.one(connection, {"id": project_id})
    return None if row is None else PROJECT.entity(row)


def find_project(connection: Connection, id_or_name: str) -> Project | None:
    """By id or name; empty means the project called "default"."""
    row = _FIND_PROJECT.one(connection, {"text": id_or_name or DEFAULT_PROJECT_NAME})
    return None if row is None else PROJECT.entity(row)


def list_projects(
    connection: Connection, request: PageRequest, *, only: tuple[ProjectId, ...] | None = None
) -> Page[Project]:
    """By name; `only` limits the list to what its caller may use."""
    query = _PROJECTS if only is None else _PROJECTS.where(PROJECTS.c.id.in_(only))
    return fetch_page(
        connection,
        query=query,
        key=PROJECTS.c.name,
        key_of=lambda item: item.name,
        build=PROJECT.entity,
        request=request,
        scope=("projects", None if only is None else sorted(only)),
    )


def project_contents(connection: Connection, project_id: ProjectId) -> tuple[str, ...]:
    """What kinds of things a project holds: of tasks, schedules, secrets, templates, runs."""
    kinds = {
        "tasks": exists().where(TASKS.c.project_id == project_id, TASKS.c.deleted_at.is_(None)),
        "schedules": exists().where(
            SCHEDULES.c.project_id == project_id,
            SCHEDULES.c.task_id.in_(select(TASKS.c.id).where(TASKS.c.deleted_at.is_(None))),
        ),
        "secrets": exists().where(SECRETS.c.project_id == project_id),
        "templates": exists().where(TEMPLATES.c.project_id == project_id),
        "runs": exists().where(RUNS.c.project_id == project_id, RUNS.c.hidden_at.is_(None)),
    }
    return tuple(kind for kind, there in kinds.items() if connection.execute(select(there)).scalar())


def principal(connection: Connection, principal_id: PrincipalId) -> Principal | None:
    row = _PRINCIPAL.one(connection, {"id": principal_id})
    return None if row is None else PRINCIPAL.entity(row)


def find_principal(connection: Connection, id_or_name: str) -> Principal | None:
    query = _PRINCIPALS.where(or_(PRINCIPALS.c.id == id_or_name, PRINCIPALS.c.name == id_or_name))
    row = connection.execute(query).first()
    return None if row is None else PRINCIPAL.entity(row)


def list_principals(connection: Connection, request: PageRequest) -> Page[Principal]:
    """By name."""
    return fetch_page(
        connection,
        query=_PRINCIPALS,
        key=PRINCIPALS.c.name,
        key_of=lambda item: item.name,
        build=PRINCIPAL.entity,
        request=request,
        scope=("principals",),
    )


def has_admin(connection: Connection) -> bool:
    query = select(PRINCIPALS.c.id).where(PRINCIPALS.c.admin, PRINCIPALS.c.kind != str(PrincipalKind.RUNNER))
    return connection.execute(query.limit(1)).first() is not None


def token(connection: Connection, token_id: TokenId) -> Token | None:
    row = connection.execute(_TOKENS.where(TOKENS.c.id == token_id)).first()
    return None if row is None else _token(row)


def token_by_digest(connection: Connection, digest: str) -> Token | None:
    row = _TOKEN_BY_DIGEST.one(connection, {"digest": digest})
    return None if row is None else _token(row)


def list_tokens(connection: Connection, request: PageRequest, *, principal_id: PrincipalId | None) -> Page[Token]:
    """Newest first; of one principal, or of all."""
    query = _TOKENS if principal_id is None else _TOKENS.where(TOKENS.c.principal_id == principal_id)
    return fetch_page(
        connection,
        query=query,
        key=TOKENS.c.id,
        key_of=lambda item: item.id,
        build=_token,
        request=request,
        scope=("tokens", principal_id),
        newest_first=True,
    )


def usable_admin_tokens(connection: Connection, now: datetime) -> int:
    """How many tokens of admins work now."""
    query = (
        select(func.count())
        .select_from(TOKENS)
        .join(PRINCIPALS, PRINCIPALS.c.id == TOKENS.c.principal_id)
        .where(
            PRINCIPALS.c.admin,
            PRINCIPALS.c.disabled_at.is_(None),
            TOKENS.c.revoked_at.is_(None),
            or_(TOKENS.c.expires_at.is_(None), TOKENS.c.expires_at > to_us(now)),
        )
    )
    return int(connection.execute(query).scalar_one())


def _token(row: AnyRow) -> Token:
    return TOKEN.entity(row, principal_name=row[-1])


def join_token(connection: Connection, token_id: JoinTokenId) -> JoinToken | None:
    row = connection.execute(_JOIN_TOKENS.where(JOIN_TOKENS.c.id == token_id)).first()
    return None if row is None else JOIN_TOKEN.entity(row)


def join_token_by_digest(connection: Connection, digest: str) -> JoinToken | None:
    row = connection.execute(_JOIN_TOKENS.where(JOIN_TOKENS.c.secret_digest == digest)).first()
    return None if row is None else JOIN_TOKEN.entity(row)


def redeemed_by(connection: Connection, token_id: JoinTokenId) -> RunnerId | None:
    """The runner that joined with a token."""
    runner_id = connection.execute(select(JOIN_TOKENS.c.used_by).where(JOIN_TOKENS.c.id == token_id)).scalar()
    return None if runner_id is None else RunnerId(runner_id)


def list_join_tokens(connection: Connection, request: PageRequest) -> Page[JoinToken]:
    """Newest first."""
    return fetch_page(
        connection,
        query=_JOIN_TOKENS,
        key=JOIN_TOKENS.c.id,
        key_of=lambda item: item.id,
        build=JOIN_TOKEN.entity,
        request=request,
        scope=("join tokens",),
        newest_first=True,
    )


def stored_request(
    connection: Connection, *, principal_id: PrincipalId, method: str, request_id: str, not_before: datetime
) -> StoredRequest | None:
    """What the same request made, if that was not before `not_before`."""
    where = {
        "principal_id": principal_id,
        "method": method,
        "request_id": request_id,
        "not_before": to_us(not_before),
    }
    row = _REQUEST.one(connection, where)
    return None if row is None else StoredRequest(body_sha256=row[0], resource_id=row[1])
