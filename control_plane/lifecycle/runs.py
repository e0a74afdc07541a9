"""Verbs on runs: create, cancel, retry by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from control_plane.domain.case import Case
from control_plane.domain.concurrency import check_keys
from control_plane.domain.copies import replace
from control_plane.domain.errors import (
    ErrorCode,
    FailedPrecondition,
    FieldViolation,
    NotFound,
)
from control_plane.domain.ids import ProjectId, RunId, TaskId, next_epoch
from control_plane.domain.principal import Caller, PrincipalKind
from control_plane.domain.run import RUN_TERMINAL, Run, RunOptions, TriggerType
from control_plane.domain.run_rules import validate_cancel, validate_options
from control_plane.domain.spec import RunSpec
from control_plane.domain.spec_rules import validate_size
from control_plane.domain.stops import CancelOrder
from control_plane.domain.stops import cancel as decide_cancel
from control_plane.domain.stops import force as decide_force
from control_plane.domain.template_rules import task_of
from control_plane.domain.variable_rules import check_given
from control_plane.lifecycle import audit
from control_plane.lifecycle.births import Birth, born, check_references, require_launcher
from control_plane.lifecycle.house import House, load_newest, require_project, store
from control_plane.lifecycle.requests import once, refuse, request_id_violations
from control_plane.lifecycle.sources import TemplateUse, of_spec, of_task, of_template
from control_plane.lifecycle.spec_cache import FrozenSpec
from control_plane.lifecycle.variables import Given, again, resolve, unused
from control_plane.storage import reads
from control_plane.storage.database import Connection
from control_plane.storage.following import Stir


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run that a caller wants: of a task, a template, or a spec of its own. Exactly one of them is given."""

    project_id: ProjectId
    task_id: TaskId | None = None
    spec: RunSpec | None = None
    template: TemplateUse | None = None
    options: RunOptions = field(default_factory=RunOptions)


async def create(house: House, caller: Caller, new: NewRun) -> Run:
    """A new run, QUEUED; with a request id the one that the same request made before.

    Raises InvalidArgument (INVALID_FIELDS, SECRET_UNKNOWN), NotFound, FailedPrecondition TASK_INACTIVE,
    AlreadyExists REQUEST_ID_REUSED, PermissionDenied.
    """
    require_project(caller, new.project_id)
    refuse(*_violations(house, caller, new))
    frozen = None if new.spec is None else house.specs.freeze(new.spec)
    if frozen is not None:
        refuse(*validate_size(len(frozen.data), frozen.spec))
    body = partial(_create, house, caller, new, frozen)
    after = partial(_told_new, house)
    made: _Made = await house.database.write(body, name="create_run", after=after, stirs=Stir.QUEUED)
    return made.run


def _violations(house: House, caller: Caller, new: NewRun) -> tuple[FieldViolation, ...]:
    found = [*request_id_violations(caller), *validate_options(new.options, house.clock.now())]
    # What the task says of its variables is looked at in the transaction; the rest is named together with all else.
    given = Given(values=new.options.variables, sensitive=new.options.sensitive_variables)
    found += [*check_given(given.values, given.sensitive, given.path), *unused(given)]
    if sum(each is not None for each in (new.task_id, new.spec, new.template)) != 1:
        found.append(FieldViolation(field="what", description="exactly one of task, template and spec must be given"))
    if new.spec is not None:
        found.extend(house.specs.violations(new.spec, house.timing.lease_s(0)))
        if new.options.overrides is not None:
            text = "is only for a run of a task or a template"
            found.append(FieldViolation(field="options.overrides", description=text))
        none: dict[str, str] = {}
        found.extend(check_keys(new.spec.concurrency, "spec.concurrency", values=none, sensitive=(), of_task=False))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A run that was made now, or that the same request made before (then there is nothing to tell)."""

    run: Run
    case: Case | None

    @property
    def id(self) -> str:
        return self.run.id


def _told_new(house: House, made: _Made) -> None:
    if made.case is not None:
        house.told((made.case,), stirs=Stir.QUEUED)


def _once(house: House, conn: Connection, caller: Caller, method: str, asked: object, make: partial[Case]) -> _Made:
    """A request id counts per method; RunTask is CreateRun's door, so they share one."""

    def known(run_id: str) -> _Made | None:
        run = reads.run(conn, RunId(run_id))
        return None if run is None else _Made(run=run, case=None)

    def fresh() -> _Made:
        case = make()
        return _Made(run=case.run, case=case)

    kept_s = house.timing.request_id_kept_s
    now = house.clock.now()
    return once(conn, caller, method, asked, now=now, kept_s=kept_s, load=known, make=fresh)


def _create(house: House, caller: Caller, new: NewRun, frozen: FrozenSpec | None, conn: Connection) -> _Made:
    return _once(house, conn, caller, "CreateRun", new, partial(_create_fresh, house, caller, new, frozen, conn))


def _create_fresh(house: House, caller: Caller, new: NewRun, frozen: FrozenSpec | None, conn: Connection) -> Case:
    if new.task_id is not None:
        source = of_task(house, conn, new.task_id, new.project_id, new.options)
    elif new.template is not None:
        source = of_template(house, conn, new.template, new.project_id, new.options)
    elif frozen is not None:
        source = of_spec(frozen, new.options)
    else:
        raise ValueError("neither a task nor a template nor a spec")
    spec = source.frozen.spec
    require_launcher(spec)
    check_references(conn, new.project_id, spec)
    birth = Birth(
        project_id=new.project_id,
        frozen=source.frozen,
        task=source.task,
        template=source.template,
        options=new.options,
        trigger_type=_trigger(caller),
        created_by=caller.principal.id,
        actor=caller.principal.name,
        values=resolve(conn, new.project_id, spec, source.given, source.task or source.template),
    )
    return born(house, conn, birth)


def _trigger(caller: Caller) -> TriggerType:
    return TriggerType.API if caller.principal.kind is PrincipalKind.SERVICE else TriggerType.MANUAL


async def cancel(
    house: House,
    caller: Caller,
    run: RunId | Callable[[Connection], Run],
    order: CancelOrder,
    *,
    force: bool = False,
) -> Run:
    """Answered means durable: the run never starts again. On CANCELLING and CANCELLED it changes nothing.

    `run`: its id, or what finds it in the same transaction: nobody waits for a read first. `force`: terminal at once,
    under a new fence. Raises NotFound, FailedPrecondition RUN_FINISHED, InvalidArgument.
    """
    refuse(*validate_cancel(order))
    order, act = replace(order, actor=caller.principal.name), audit.current()

    def body(conn: Connection) -> Case:
        found = run(conn) if callable(run) else reads.run(conn, run)
        if found is None:
            raise NotFound(ErrorCode.RUN_NOT_FOUND)
        if act is not None:
            act.touch(found)
        require_project(caller, found.project_id)
        return cancel_in(house, conn, found.id, order, force=force)

    case = await house.database.write(body, name="cancel", after=lambda case: house.told((case,)))
    return case.run


def cancel_in(house: House, conn: Connection, run_id: RunId, order: CancelOrder, *, force: bool = False) -> Case:
    """The same inside a transaction of the caller's, who gives the case to `house.told` after the commit."""
    before = load_newest(house, conn, run_id)
    if before is None:
        raise NotFound(ErrorCode.RUN_NOT_FOUND)
    now = house.clock.now()
    if force:
        epoch = next_epoch(before.run.lease_epoch, reads.generation(conn))
        return store(conn, before, decide_force(before, order, epoch, now))
    return store(conn, before, decide_cancel(before, order, now))


async def retry(
    house: House,
    caller: Caller,
    run_id: RunId,
    *,
    use_newest_spec: bool = False,
    variables: Mapping[str, str] | None = None,
) -> Run:
    """A new run like a finished one, with the frozen spec or with its task's as it is now.

    `variables` win over the old run's. Raises NotFound, FailedPrecondition RUN_ACTIVE, TASK_DELETED, VARIABLES_GONE,
    InvalidArgument, AlreadyExists REQUEST_ID_REUSED.
    """
    refuse(*request_id_violations(caller))
    given = dict(variables or {})

    def body(conn: Connection) -> _Made:
        asked = {"retry_of": run_id, "use_newest_spec": use_newest_spec, **({"variables": given} if given else {})}
        make = partial(_retry, house, caller, run_id, use_newest_spec, given, conn)
        return _once(house, conn, caller, "RetryRun", asked, make)

    after = partial(_told_new, house)
    made: _Made = await house.database.write(body, name="retry", after=after, stirs=Stir.QUEUED)
    return made.run


def _retry(
    house: House,
    caller: Caller,
    run_id: RunId,
    use_newest_spec: bool,
    given: Mapping[str, str],
    conn: Connection,
) -> Case:
    old = reads.run(conn, run_id)
    if old is None:
        raise NotFound(ErrorCode.RUN_NOT_FOUND)
    require_project(caller, old.project_id)
    if old.state not in RUN_TERMINAL:
        raise FailedPrecondition(ErrorCode.RUN_ACTIVE, f"Run {old.id} is {old.state}: it is not over yet.")
    task = None if old.task_id is None else reads.task(conn, old.task_id)
    deleted = old.task_id is not None and (task is None or task.deleted_at is not None)
    if use_newest_spec and deleted:
        raise FailedPrecondition(ErrorCode.TASK_DELETED, "Its task was deleted: only its own spec can be run again.")
    newest = use_newest_spec and task is not None
    frozen = house.specs.frozen(conn, task.spec_sha256 if newest and task is not None else old.spec_sha256)
    check_references(conn, old.project_id, frozen.spec)
    template = reads.template_of_run(conn, old)
    birth = Birth(
        project_id=old.project_id,
        frozen=frozen,
        task=None if deleted else task,
        template=None if template is None else task_of(template),
        options=replace(old.options, not_before=None, deadline=None),
        trigger_type=TriggerType.RETRY,
        created_by=caller.principal.id,
        actor=caller.principal.name,
        retry_of=old,
        values=again(house, conn, old, frozen.spec, given, task=None if deleted else task, newest=newest),
    )
    return born(house, conn, birth)
