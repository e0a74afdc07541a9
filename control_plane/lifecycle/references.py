"""What definitions refer to: a secret that one names must be there, and one that is named does not go unnoticed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from control_plane.domain.errors import ErrorCode, FailedPrecondition, FieldViolation, InvalidArgument
from control_plane.domain.ids import ProjectId
from control_plane.domain.names import check_secret_name
from control_plane.domain.principal import Caller
from control_plane.domain.spec import RunSpec
from control_plane.domain.task import NotificationSettings
from control_plane.domain.variables import Variable
from control_plane.lifecycle.requests import refuse
from control_plane.storage import reads
from control_plane.storage.database import Connection

# More than so many users of a secret are only counted.
NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretPlace:
    """A field of a request that names a secret."""

    field: str
    name: str


def places_in_spec(spec: RunSpec, path: str = "spec") -> Iterator[SecretPlace]:
    found = [(f"{path}.env", spec.env), *((f"{path}.steps[{i}].env", step.env) for i, step in enumerate(spec.steps))]
    for place, variables in found:
        for index, variable in enumerate(variables):
            if variable.secret_ref:
                yield SecretPlace(field=f"{place}[{index}].secret_ref", name=variable.secret_ref)


def places_in_definition(
    path: str,
    spec: RunSpec | None,
    variables: tuple[Variable, ...] | None,
    notifications: tuple[NotificationSettings, ...] | None,
) -> tuple[SecretPlace, ...]:
    """Of a task or a template, or of what changes of one: None stays as it is."""
    found = [] if spec is None else [*places_in_spec(spec, f"{path}.spec")]
    refer: dict[str, list[str]] = {
        "variables": [each.secret_ref for each in variables or ()],
        "notifications": [each.secret_ref for each in notifications or ()],
    }
    for name, secrets in refer.items():
        found += [
            SecretPlace(field=f"{path}.{name}[{index}].secret_ref", name=secret)
            for index, secret in enumerate(secrets)
            if secret
        ]
    return tuple(found)


def missing_secrets(
    connection: Connection, project_id: ProjectId, places: Iterable[SecretPlace]
) -> tuple[FieldViolation, ...]:
    """The places whose secret the project does not have. What is no name at all is named by other rules."""
    wanted = tuple(each for each in places if not any(check_secret_name(each.name, each.field)))
    if not wanted:
        return ()
    known = reads.secret_names(connection, project_id)
    return tuple(
        FieldViolation(field=each.field, description=f"there is no secret {each.name[:128]}")
        for each in wanted
        if each.name not in known
    )


def require_secrets(connection: Connection, project_id: ProjectId, places: Iterable[SecretPlace]) -> None:
    """Raises InvalidArgument SECRET_UNKNOWN with every field that names a secret which is not there."""
    wanted = tuple(places)
    wrong = missing_secrets(connection, project_id, wanted)
    if wrong:
        fields = {each.field for each in wrong}
        names = sorted({each.name for each in wanted if each.field in fields})
        text = f"The project has no secret {', '.join(names)}."
        hint = f"banksman secret set {names[0]}"
        raise InvalidArgument(ErrorCode.SECRET_UNKNOWN, text, violations=wrong, hint=hint)


def refuse_with_secrets(
    connection: Connection, project_id: ProjectId, places: Iterable[SecretPlace], wrong: tuple[FieldViolation, ...]
) -> None:
    """Raises InvalidArgument that names what is `wrong`, and every field whose secret is not there."""
    places = tuple(places)
    if wrong:
        refuse(*wrong, *missing_secrets(connection, project_id, places))
    require_secrets(connection, project_id, places)


def require_unused(connection: Connection, caller: Caller, project_id: ProjectId, name: str) -> None:
    """Raises FailedPrecondition SECRET_IN_USE; it names users that the caller sees, and counts the others."""
    users = reads.users_of_secret(connection, project_id, name)
    if not users:
        return
    me = caller.principal
    seen = [f"{each.kind} {each.name}" for each in users if me.admin or each.is_public or each.owner == me.id]
    named = seen[:NAMED]
    more = len(users) - len(named)
    listed = ", ".join((*named, f"{more} more" if named else f"{more} that you do not see") if more else named)
    text = f"Secret {name!r} is in use by {listed}. Nothing was deleted."
    metadata = {"users": str(len(users))}
    hint = f"banksman secret rm {name} --force"
    raise FailedPrecondition(ErrorCode.SECRET_IN_USE, text, metadata=metadata, hint=hint)
