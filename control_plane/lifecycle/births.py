"""How a run comes to be: everything that makes one, checked already, in a transaction of the caller's."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from control_plane.domain.case import Case, concluded
from control_plane.domain.concurrency import check_keys
from control_plane.domain.copies import replace
from control_plane.domain.errors import ErrorCode, FailedPrecondition, NotFound
from control_plane.domain.history import RunEventType
from control_plane.domain.ids import PrincipalId, ProjectId, RunId, ScheduleId
from control_plane.domain.reason import Reason, sentence
from control_plane.domain.run import Run, RunOptions, RunState, TriggerType
from control_plane.domain.spec import RunSpec
from control_plane.domain.task import ReportFormat, Task
from control_plane.lifecycle.house import House
from control_plane.lifecycle.limits import Admission, admit, places_for
from control_plane.lifecycle.notices import keep_notices
from control_plane.lifecycle.references import places_in_spec, require_secrets
from control_plane.lifecycle.requests import refuse
from control_plane.lifecycle.spec_cache import FrozenSpec
from control_plane.lifecycle.variables import Values, seal
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """Everything that makes a run, checked already. With `skip` it is born SKIPPED."""

    project_id: ProjectId
    frozen: FrozenSpec
    trigger_type: TriggerType
    created_by: PrincipalId
    actor: str = ""
    task: Task | None = None
    # A template that is run directly, as the task that it would be.
    template: Task | None = None
    options: RunOptions = field(default_factory=RunOptions)
    schedule_id: ScheduleId | None = None
    scheduled_time: datetime | None = None
    retry_of: Run | None = None
    skip: Reason | None = None
    # Instead of the reason's own sentence.
    skip_note: str = ""
    values: Values = field(default_factory=Values)


def require_launcher(spec: RunSpec) -> None:
    """Raises FailedPrecondition LAUNCHER_UNAVAILABLE for what no runner of this version can start."""
    if spec.coding_agent is not None:
        text = "Coding agents cannot be run by this version yet; their tasks are only stored."
        raise FailedPrecondition(ErrorCode.LAUNCHER_UNAVAILABLE, text, metadata={"launcher": "coding_agent"})


def check_references(conn: Connection, project_id: ProjectId, spec: RunSpec, path: str = "spec") -> None:
    """What a spec names must be there at submit. Raises InvalidArgument SECRET_UNKNOWN, NotFound RUNNER_NOT_FOUND."""
    if spec.secret_names():
        require_secrets(conn, project_id, places_in_spec(spec, path))
    if spec.runner:
        runner = reads.find_runner(conn, spec.runner)
        if runner is None or runner.revoked_at is not None:
            raise NotFound(ErrorCode.RUNNER_NOT_FOUND, f"There is no runner {spec.runner!r}.")


def born(house: House, conn: Connection, birth: Birth) -> Case:
    """A run comes to be inside a transaction of the caller's, who gives the case to `house.told` after the commit."""
    now = house.clock.now()
    spec, options = birth.frozen.spec, birth.options
    names = tuple(sorted(spec.secret_names()))
    writes.insert_spec(conn, birth.frozen.sha256, birth.frozen.data, now, names)
    queue_expires_at = None
    if spec.queue_timeout_s is not None:
        queue_expires_at = (options.not_before or now) + timedelta(seconds=spec.queue_timeout_s)
    old, rules = birth.retry_of, birth.task or birth.template
    about = rules or old
    run = Run(
        id=RunId(house.clock.new_id()),
        project_id=birth.project_id,
        state=RunState.QUEUED,
        spec_sha256=birth.frozen.sha256,
        trigger_type=birth.trigger_type,
        created_by=birth.created_by,
        created_at=now,
        task_id=None if birth.task is None else birth.task.id,
        task_name="" if birth.task is None else birth.task.name,
        tags=() if about is None else about.tags,
        report_formats=_report_formats(birth),
        template_id=None if about is None else about.template_id,
        template_name="" if about is None else about.template_name,
        template_version=0 if about is None else about.template_version,
        # Values never lie in the options: sensitive ones would be there in clear.
        options=replace(options, variables={}, sensitive_variables=()) if options.variables else options,
        variables=birth.values.stored,
        priority=spec.priority if options.priority is None else options.priority,
        not_before=options.not_before,
        queue_expires_at=queue_expires_at,
        deadline=options.deadline,
        retry_of=None if old is None else old.id,
        retries_by_hand=0 if old is None else old.retries_by_hand + 1,
        root_run_id=None if old is None else old.root_run_id or old.id,
        schedule_id=birth.schedule_id,
        scheduled_time=birth.scheduled_time,
    )
    admission = _admitted(house, conn, birth, run)
    run = replace(run, places=admission.places, lane=admission.lane)
    if admission.note:
        birth = replace(birth, skip=Reason.LIMIT_REACHED, skip_note=admission.note)
        run = replace(run, report_formats=())
    notifications = () if rules is None else rules.notifications
    case = _begun(Case(run=run, spec=spec, notifications=notifications, also=admission.superseded), birth, now)
    writes.insert_run(conn, case.run)
    writes.append_events(conn, case.events)
    keep_notices(conn, None, case)
    if birth.values.sensitive and birth.skip is None:
        seal(house, conn, case.run, birth.values)
    return case


def _report_formats(birth: Birth) -> tuple[ReportFormat, ...]:
    """What is skipped has nothing to report."""
    rules = birth.task or birth.template
    if rules is None or birth.skip is not None or not rules.report.enabled:
        return ()
    return rules.report.formats


def _admitted(house: House, conn: Connection, birth: Birth, run: Run) -> Admission:
    """The places that it takes under its limits. Raises FailedPrecondition LIMIT_REACHED, InvalidArgument."""
    spec, old = birth.frozen.spec, birth.retry_of
    if birth.skip is not None:
        return Admission(lane=birth.project_id)
    task_id = run.task_id if old is None else run.task_id or old.task_id
    name = run.task_name if old is None else run.task_name or old.task_name
    if spec.concurrency:
        known = {each.name: each.value for each in run.variables or ()}
        hidden = {each.name for each in run.variables or () if each.sensitive}
        of_task = task_id is not None
        path = "spec.concurrency"
        refuse(*check_keys(spec.concurrency, path, values=known, sensitive=hidden, of_task=of_task))
    places = places_for(birth.project_id, task_id, name, spec, run.variables)
    return admit(house, conn, birth.project_id, places, fires=birth.scheduled_time is not None)


def _begun(case: Case, birth: Birth, now: datetime) -> Case:
    """QUEUED, or SKIPPED with the reason: then it is over and settled at once."""
    case = case.record(RunEventType.CREATED, now, actor=birth.actor)
    if birth.skip is not None:
        text = birth.skip_note or sentence(birth.skip)
        run = replace(case.run, state=RunState.SKIPPED, reason=birth.skip, error_message=text, completed_at=now)
        case = replace(case, run=run).record(RunEventType.SKIPPED, now, reason=birth.skip)
    return concluded(case, now)
