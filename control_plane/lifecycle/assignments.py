"""The assignment of an accepted attempt: the only message that carries secret values."""

from control_plane.domain.case import Case
from control_plane.domain.loss import lost_after_s
from control_plane.domain.session import Assignment
from control_plane.domain.variable_rules import render_spec
from control_plane.domain.variables import environment
from control_plane.lifecycle import variables
from control_plane.lifecycle.house import House
from control_plane.storage import reads
from control_plane.storage.database import Connection


def missing_secrets(house: House, conn: Connection, case: Case) -> tuple[str, ...]:
    """Names that the spec or the run's variables refer to and that its project no longer has, as they are needed."""
    names = case.spec.secret_names() | variables.secret_names(case.run)
    if not names:
        return ()
    missing = names - reads.secret_names(conn, case.run.project_id)
    return tuple(sorted(missing)) or variables.not_text(house, conn, case.run)


def assignment(house: House, conn: Connection, case: Case) -> Assignment:
    """What the attempt's runner is told to run, its variables replaced. Raises ValueError when a stored secret was
    altered."""
    run, attempt = case.run, case.live
    sealed = reads.sealed_secrets(conn, run.project_id, case.spec.secret_names())
    values = {
        each.secret.name: house.vault.open(run.project_id, each.secret.name, each.secret.version, each.sealed)
        for each in sealed
    }
    spec, given = case.spec, {}
    if run.variables is not None:
        given = variables.open_values(house, conn, run)
        spec = render_spec(spec, given)
        values |= variables.masks(run, given)
    project = reads.project(conn, run.project_id)
    project_name = "" if project is None else project.name
    env = {
        **environment(given),
        "BANKSMAN_RUN_ID": run.id,
        "BANKSMAN_ATTEMPT": str(attempt.number),
        "BANKSMAN_LEASE_EPOCH": str(attempt.lease_epoch),
        "BANKSMAN_PROJECT": project_name,
        "BANKSMAN_TASK": run.task_name,
        "BANKSMAN_TRIGGER_TYPE": run.trigger_type.lower(),
    }
    return Assignment(
        key=attempt.key,
        spec=spec,
        secrets=values,
        env=env,
        lost_after_s=lost_after_s(case.spec),
        project_name=project_name,
        task_name=run.task_name,
        attempt_number=attempt.number,
    )
