"""Verbs on principals."""

from __future__ import annotations

from dataclasses import dataclass, replace

from control_plane.domain.errors import AlreadyExists, ErrorCode, FailedPrecondition, FieldViolation, NotFound
from control_plane.domain.ids import PrincipalId, ProjectId
from control_plane.domain.names import check_name
from control_plane.domain.principal import Caller, Principal, PrincipalKind, Token
from control_plane.lifecycle import tokens
from control_plane.lifecycle.house import House
from control_plane.lifecycle.requests import once, refuse, request_id_violations, require_saved
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection

ADMIN_NAME = "admin"
_MOST_PROJECTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPrincipal:
    """What an admin says about a principal that is to be. `projects` are ids or names; none for an admin."""

    kind: PrincipalKind
    name: str
    admin: bool = False
    projects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PrincipalChange:
    """What an admin changes of a principal; None, or an empty name: as it is. `projects` are ids or names."""

    name: str = ""
    admin: bool | None = None
    projects: tuple[str, ...] | None = None
    disabled: bool | None = None


async def ensure_admin(house: House, secret_digest: str, note: str) -> Token:
    """A token with this digest for the principal "admin"; both are made when they are not there.

    For the server itself, at its first start and whenever its token file was lost.
    """

    def body(connection: Connection) -> Token:
        known = reads.token_by_digest(connection, secret_digest)
        if known is not None:
            return known
        admin = reads.find_principal(connection, ADMIN_NAME)
        if admin is None:
            admin = _insert(
                house, connection, NewPrincipal(kind=PrincipalKind.USER, name=ADMIN_NAME, admin=True), (), ""
            )
        new = tokens.NewToken(note=note, secret_digest=secret_digest)
        return tokens.insert(house, connection, admin, new, created_by="")

    return await house.database.write(body, name="principals.ensure_admin")


async def create(house: House, caller: Caller, new: NewPrincipal) -> Principal:
    """Raises InvalidArgument with every offending field, AlreadyExists NAME_TAKEN or REQUEST_ID_REUSED."""
    wrong = [*check_name(new.name, "principal.name"), *request_id_violations(caller)]
    if new.kind is PrincipalKind.RUNNER:
        wrong.append(_violation("principal.kind", "must be USER or SERVICE: runners are made by enrolling"))
    if new.admin and new.projects:
        wrong.append(_violation("principal.project_ids", "must be empty for an admin, who may use all"))
    if len(new.projects) > _MOST_PROJECTS:
        wrong.append(_violation("principal.project_ids", f"at most {_MOST_PROJECTS} projects, are {len(new.projects)}"))

    def body(connection: Connection) -> Principal:
        project_ids, unknown = find_projects(connection, new.projects, "principal.project_ids")
        refuse(*wrong, *unknown)
        return once(
            connection,
            caller,
            "CreatePrincipal",
            new,
            now=house.clock.now(),
            kept_s=house.timing.request_id_kept_s,
            load=lambda known: reads.principal(connection, PrincipalId(known)),
            make=lambda: _insert(house, connection, new, project_ids, caller.principal.id),
        )

    return await house.database.write(body, name="principals.create")


async def update(house: House, principal_id: PrincipalId, change: PrincipalChange) -> Principal:
    """What it may do from now on; again is no error.

    Raises NotFound, InvalidArgument with every offending field, AlreadyExists NAME_TAKEN, and FailedPrecondition
    LAST_ADMIN where no token could administer any more.
    """

    def body(connection: Connection) -> Principal:
        old = reads.principal(connection, principal_id)
        if old is None:
            raise NotFound(ErrorCode.PRINCIPAL_NOT_FOUND)
        new = _changed(house, connection, old, change)
        if new != old:
            require_saved(writes.save_principal(connection, old, new))
            _keep_an_admin(house, connection, old)
        return new

    return await house.database.write(body, name="principals.update", after=lambda _: house.watch.notify(tokens.TOPIC))


def _changed(house: House, connection: Connection, old: Principal, change: PrincipalChange) -> Principal:
    admin = old.admin if change.admin is None else change.admin
    names: tuple[str, ...] = old.project_ids if change.projects is None else change.projects
    if change.projects is None and admin:
        names = ()
    wrong = list(check_name(change.name, "new_name")) if change.name else []
    if admin and names:
        wrong.append(_violation("principal.project_ids", "must be empty for an admin, who may use all"))
    if len(names) > _MOST_PROJECTS:
        wrong.append(_violation("principal.project_ids", f"at most {_MOST_PROJECTS} projects, are {len(names)}"))
    if old.name == ADMIN_NAME and (change.name or not admin or change.disabled):
        wrong.append(_violation("principal", f'"{ADMIN_NAME}" stays as it is: the CLI on the server\'s host is it'))
    project_ids, unknown = find_projects(connection, names, "principal.project_ids")
    refuse(*wrong, *unknown)
    name = change.name or old.name
    if name != old.name and reads.find_principal(connection, name) is not None:
        raise AlreadyExists(ErrorCode.NAME_TAKEN, f"There is a principal {name!r} already.")
    disabled_at = old.disabled_at
    if change.disabled is not None:
        disabled_at = (old.disabled_at or house.clock.now()) if change.disabled else None
    return replace(old, name=name, admin=admin, project_ids=project_ids, disabled_at=disabled_at)


def _keep_an_admin(house: House, connection: Connection, old: Principal) -> None:
    if old.admin and reads.usable_admin_tokens(connection, house.clock.now()) == 0:
        raise FailedPrecondition(
            ErrorCode.LAST_ADMIN,
            "Only its tokens can administer this control plane.",
            hint="Make another admin with a token first.",
        )


def find_projects(
    connection: Connection, names: tuple[str, ...], field: str
) -> tuple[tuple[ProjectId, ...], tuple[FieldViolation, ...]]:
    """Ids of projects given by id or name, each once, and a violation for every one that does not exist."""
    found: dict[ProjectId, None] = {}
    unknown: list[FieldViolation] = []
    for index, name in enumerate(names[:_MOST_PROJECTS]):
        project = reads.find_project(connection, name) if name else None
        if project is None:
            unknown.append(_violation(f"{field}[{index}]", f"there is no project {name[:80]!r}"))
        else:
            found[project.id] = None
    return tuple(found), tuple(unknown)


def _insert(
    house: House, connection: Connection, new: NewPrincipal, project_ids: tuple[ProjectId, ...], created_by: str
) -> Principal:
    if reads.find_principal(connection, new.name) is not None:
        raise AlreadyExists(ErrorCode.NAME_TAKEN, f"There is a principal {new.name!r} already.")
    principal = Principal(
        id=PrincipalId(house.clock.new_id()),
        kind=new.kind,
        name=new.name,
        admin=new.admin,
        project_ids=project_ids,
        created_at=house.clock.now(),
    )
    writes.insert_principal(connection, principal, created_by=created_by)
    return principal


def _violation(field: str, description: str) -> FieldViolation:
    return FieldViolation(field=field, description=description)
