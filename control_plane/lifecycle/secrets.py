"""Verbs on secrets. Values go in, are sealed, and come out only for an Assignment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from control_plane.domain import limits
from control_plane.domain.errors import ErrorCode, FieldViolation, NotFound
from control_plane.domain.ids import ProjectId
from control_plane.domain.names import check_secret_name
from control_plane.domain.principal import Caller
from control_plane.domain.secret import SealedSecret, Secret
from control_plane.lifecycle.house import House
from control_plane.lifecycle.references import require_unused
from control_plane.lifecycle.requests import refuse, require_saved
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class NewValue:
    """A secret's name and its value, which no text form of this object shows."""

    project_id: ProjectId
    name: str
    value: bytes

    def __repr__(self) -> str:
        return f"NewValue(project_id={self.project_id!r}, name={self.name!r}, {len(self.value)} bytes)"


async def put(house: House, caller: Caller, new: NewValue) -> Secret:
    """A new secret, or a new version of one. Raises InvalidArgument with every offending field."""
    found = [*check_secret_name(new.name, "name")]
    least, most = limits.SECRET_SMALLEST_BYTES, limits.SECRET_LARGEST_BYTES
    if not least <= len(new.value) <= most:
        description = f"must have {least} to {most} bytes (a shorter value could not be masked), has {len(new.value)}"
        found.append(FieldViolation(field="value", description=description))
    refuse(*found)
    return await house.database.write(partial(_put, house, caller, new), name="secrets.put")


async def delete(house: House, caller: Caller, project_id: ProjectId, name: str, *, force: bool = False) -> None:
    """Waiting runs that refer to it fail with SECRET_UNAVAILABLE. `force`: also while tasks or templates refer to it.

    Raises NotFound SECRET_NOT_FOUND, FailedPrecondition SECRET_IN_USE.
    """

    def body(connection: Connection) -> None:
        if not force and name in reads.secret_names(connection, project_id):
            require_unused(connection, caller, project_id, name)
        if not writes.delete_secret(connection, project_id, name):
            raise NotFound(ErrorCode.SECRET_NOT_FOUND, f"There is no secret {name[:128]!r}.")

    await house.database.write(body, name="secrets.delete")


def _put(house: House, caller: Caller, new: NewValue, connection: Connection) -> Secret:
    now = house.clock.now()
    known = reads.sealed_secrets(connection, new.project_id, (new.name,))
    version = known[0].secret.version + 1 if known else 1
    secret = Secret(
        name=new.name,
        project_id=new.project_id,
        version=version,
        created_by=known[0].secret.created_by if known else caller.principal.id,
        created_at=known[0].secret.created_at if known else now,
        updated_at=now,
    )
    sealed = SealedSecret(secret=secret, sealed=house.vault.seal(new.project_id, new.name, version, new.value))
    if known:
        require_saved(writes.save_secret(connection, known[0], sealed))
    else:
        writes.insert_secret(connection, sealed)
    return secret
