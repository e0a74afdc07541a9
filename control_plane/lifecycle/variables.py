"""The variables of a run: what its task declares and its caller gives, sealed until the run has settled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from control_plane.domain import limits
from control_plane.domain.errors import ErrorCode, FailedPrecondition, FieldViolation
from control_plane.domain.ids import ProjectId, RunId
from control_plane.domain.names import violation
from control_plane.domain.run import Run
from control_plane.domain.spec import RunSpec
from control_plane.domain.task import Task
from control_plane.domain.variable_rules import check_given, check_known, check_places, check_rendered
from control_plane.domain.variables import UnknownVariables, Variable, VariableValue
from control_plane.lifecycle.house import House
from control_plane.lifecycle.references import SecretPlace, require_secrets
from control_plane.lifecycle.requests import refuse
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection

# Values in an Assignment under such a name are only to be masked: no spec can name a secret so.
MASK_PREFIX = "variable:"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Values:
    """A run's variables before it is stored. It holds sensitive values, so it has no repr that could reach a log."""

    # None: the spec is no template.
    stored: tuple[VariableValue, ...] | None = None
    sensitive: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Given:
    """What a caller brings."""

    values: Mapping[str, str] = field(default_factory=dict)
    sensitive: tuple[str, ...] = ()
    # Where the request has them.
    path: str = "options.variables"
    # A person may have mistyped a name: one that would reach nothing is refused. Not so values that were stored.
    fresh: bool = False


def resolve(
    connection: Connection,
    project_id: ProjectId,
    spec: RunSpec,
    given: Given,
    task: Task | None = None,
) -> Values:
    """The variables of a run that is to be. An inline spec is a template only if values are given.

    Raises InvalidArgument INVALID_FIELDS with every offending field, SECRET_UNKNOWN.
    """
    if task is None and not given.values:
        refuse(*unused(given))
        return Values()
    declared = () if task is None else task.variables
    secret = {each.name for each in declared if each.is_sensitive} | set(given.sensitive)
    refuse(
        *check_given(given.values, secret, given.path),
        *_fitting(declared, given),
        *unused(given),
        *(_strange(given, task, spec) if task is not None else ()),
    )
    found = [*_declared(declared, given), *_others(declared, given)]
    values = {each.name: each.value for each in found}
    open_values = values | {name: value for name, value in given.values.items() if name in values}
    allow = task is not None and task.allow_shell_substitution
    refuse(
        *(() if task is not None else check_places(spec, "spec", allow_shell_substitution=allow)),
        *check_rendered(
            spec,
            open_values,
            "spec",
            allow_shell_substitution=allow,
            refuse_unknown=task is not None and task.unknown_variables is UnknownVariables.REFUSE,
        ),
    )
    _check_secrets(connection, project_id, found, given.path)
    sensitive = {each.name: given.values[each.name] for each in found if each.sensitive and not each.secret_ref}
    return Values(stored=tuple(found), sensitive=sensitive)


def given_violations(given: Given, task: Task, spec: RunSpec | None = None) -> tuple[FieldViolation, ...]:
    """What is wrong with values that are kept in clear until runs of the task, with this spec, get them."""
    secret = {each.name for each in task.variables if each.is_sensitive}
    return (
        *check_given(given.values, set(), given.path),
        *_fitting(task.variables, given),
        *(_strange(given, task, spec) if spec is not None else ()),
        *(
            violation(f"{given.path}[{name}]", "the task keeps it secret: let its default be a secret of the project")
            for name in sorted(secret & given.values.keys())
        ),
    )


def seal(house: House, connection: Connection, run: Run, values: Values) -> None:
    """Keep the sensitive values of a run that was just stored."""
    sealed = {
        name: house.vault.seal(run.project_id, _place(run.id, name), 0, value.encode())
        for name, value in values.sensitive.items()
    }
    writes.insert_run_secrets(connection, run.id, sealed)


def given_values(house: House, connection: Connection, run: Run) -> dict[str, str]:
    """What came with a run and is still known: sensitive values only until it has settled."""
    plain = {each.name: each.value for each in run.variables or () if not each.sensitive}
    sealed = reads.run_secrets(connection, run.id)
    opened = {name: house.vault.open(run.project_id, _place(run.id, name), 0, box) for name, box in sealed.items()}
    return plain | {name: value.decode() for name, value in opened.items()}


def open_values(house: House, connection: Connection, run: Run) -> dict[str, str]:
    """Every value, for an Assignment. Raises LookupError when one is gone, ValueError when one was altered."""
    values = given_values(house, connection, run)
    named = {each.secret_ref for each in run.variables or () if each.secret_ref}
    sealed = {each.secret.name: each for each in reads.sealed_secrets(connection, run.project_id, named)}
    for variable in run.variables or ():
        if variable.secret_ref:
            box = sealed[variable.secret_ref]
            name, version = box.secret.name, box.secret.version
            values[variable.name] = house.vault.open(run.project_id, name, version, box.sealed).decode()
        elif variable.name not in values:
            raise LookupError(f"the value of variable {variable.name} is no longer kept")
    return values


def not_text(house: House, connection: Connection, run: Run) -> tuple[str, ...]:
    """Secrets that a variable takes its value from and that cannot stand in an argument: not UTF-8, or with a NUL."""
    named = secret_names(run)
    return tuple(
        f"{each.secret.name} as text"
        for each in reads.sealed_secrets(connection, run.project_id, named)
        if not _is_text(house.vault.open(run.project_id, each.secret.name, each.secret.version, each.sealed))
    )


def _is_text(value: bytes) -> bool:
    try:
        return "\0" not in value.decode()
    except UnicodeDecodeError:
        return False


def masks(run: Run, values: Mapping[str, str]) -> dict[str, bytes]:
    """What the run's log must not show, under names that nothing refers to."""
    return {f"{MASK_PREFIX}{each.name}": values[each.name].encode() for each in run.variables or () if each.sensitive}


def secret_names(run: Run) -> frozenset[str]:
    """Secrets of the project that the run's variables take their values from."""
    return frozenset(each.secret_ref for each in run.variables or () if each.secret_ref)


def again(
    house: House,
    connection: Connection,
    old: Run,
    spec: RunSpec,
    given: Mapping[str, str],
    *,
    task: Task | None,
    newest: bool,
) -> Values:
    """The variables of a retry by hand: the old run's values, then what is given now.

    `newest`: the task's declarations count as they are now. Raises FailedPrecondition VARIABLES_GONE, InvalidArgument.
    """
    path = "variables"
    known = given_values(house, connection, old) | dict(given)
    if newest and task is not None:
        return resolve(connection, old.project_id, spec, Given(values=known, path=path), task)
    if old.variables is None and not given:
        return Values()
    before = {each.name: each for each in old.variables or ()}
    gone = [name for name, each in before.items() if name not in known and not each.secret_ref]
    if gone:
        text = f"Values of a settled run are not kept: give {', '.join(gone)} again."
        raise FailedPrecondition(ErrorCode.VARIABLES_GONE, text, metadata={"variables": ",".join(gone)})
    secret = {name for name, each in before.items() if each.sensitive}
    strange = () if task is None else check_known(given, before, spec, path)
    refuse(*check_given(known, secret, path), *strange)
    found = [each for name, each in before.items() if name not in known]
    found += [
        VariableValue(name=name, value="" if name in secret else known[name], sensitive=name in secret)
        for name in sorted(known)
    ]
    # What a shell may read was decided for the old values; new ones need the task's word again.
    allow = not given or (task is not None and task.allow_shell_substitution)
    refuse(*check_rendered(spec, known, "spec", allow_shell_substitution=allow, refuse_unknown=False))
    _check_secrets(connection, old.project_id, found, path)
    return Values(stored=tuple(found), sensitive={name: known[name] for name in sorted(secret & known.keys())})


def _place(run_id: RunId, name: str) -> str:
    """Where a value is sealed to: no secret of a project has such a name."""
    return f"run:{run_id}:{name}"


def _fitting(declared: tuple[Variable, ...], given: Given) -> Iterator[FieldViolation]:
    names = {variable.name.upper(): variable.name for variable in declared}
    for name in sorted(given.values):
        known = names.get(name.upper(), name)
        if known != name:
            yield violation(f"{given.path}[{name[:80]}]", f"the task calls it {known!r}")
    for variable in declared:
        unset = variable.default_value is None and not variable.secret_ref and variable.name not in given.values
        if variable.required and unset:
            yield violation(f"{given.path}[{variable.name}]", "the task requires a value")
    if len({*names, *(name.upper() for name in given.values)}) > limits.VARIABLES:
        yield violation(given.path, f"at most {limits.VARIABLES} variables, with those of the task")


def _strange(given: Given, task: Task, spec: RunSpec) -> Iterator[FieldViolation]:
    if given.fresh:
        declared = [each.name for each in task.variables]
        yield from check_known(given.values, declared, spec, given.path)


def unused(given: Given) -> Iterator[FieldViolation]:
    """Names that are to be kept secret and have no value."""
    for index, name in enumerate(given.sensitive):
        if name not in given.values:
            yield violation(f"options.sensitive_variables[{index}]", f"no variable {name[:80]!r} is given")


def _declared(declared: tuple[Variable, ...], given: Given) -> Iterator[VariableValue]:
    for variable in declared:
        name = variable.name
        if name in given.values:
            sensitive = variable.is_sensitive or name in given.sensitive
            yield VariableValue(name=name, value="" if sensitive else given.values[name], sensitive=sensitive)
        elif variable.secret_ref:
            yield VariableValue(name=name, secret_ref=variable.secret_ref, sensitive=True)
        elif variable.default_value is not None:
            yield VariableValue(name=name, value=variable.default_value)


def _others(declared: tuple[Variable, ...], given: Given) -> Iterator[VariableValue]:
    known = {variable.name for variable in declared}
    for name in sorted(given.values.keys() - known):
        sensitive = name in given.sensitive
        yield VariableValue(name=name, value="" if sensitive else given.values[name], sensitive=sensitive)


def _check_secrets(connection: Connection, project_id: ProjectId, found: list[VariableValue], path: str) -> None:
    places = [SecretPlace(field=f"{path}[{each.name}]", name=each.secret_ref) for each in found if each.secret_ref]
    require_secrets(connection, project_id, places)
