"""What the tables show of each kind of thing."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from control_plane.cli.durations import written_duration
from control_plane.cli.limit_options import limit_text, retention_text
from control_plane.cli.output import Cell, Column, Id, State, View, iso, span, to_datetime, to_seconds, when
from control_plane.cli.words import enum_word, reason_sentence, run_title, state_word

if TYPE_CHECKING:
    from control_plane.cli.contract import access_pb2, run_pb2, schedule_pb2, spec_pb2, task_pb2


def pairs(labels: object) -> str:
    """A map of labels as k=v,k=v in the order of the keys."""
    return ",".join(f"{key}={value}" for key, value in sorted(dict(labels).items()))  # type: ignore[call-overload]


def template_of(made: run_pb2.Run | task_pb2.Task) -> str:
    """The template that a run or task was made of, in its version then."""
    return f"{made.template_name} (version {made.template_version})" if made.template_id else ""


def command_of(spec: spec_pb2.RunSpec) -> str:
    """The steps as one line, quoted as a shell would read them."""
    return " ; ".join(
        shlex.join(step.command.argv) if step.command.argv else f"script of {len(step.command.script)} characters"
        for step in spec.steps
    )


def run_command(run: run_pb2.Run) -> str:
    """As it is executed: variables replaced, sensitive ones by their names."""
    rendered = [shlex.join(command.argv) for command in run.rendered_commands]
    return " ; ".join(rendered) if rendered and all(rendered) else command_of(run.spec)


def variables_of(run: run_pb2.Run) -> str:
    """Of a sensitive one only its name."""
    return " ".join(
        f"{each.name}=secret:{each.secret_ref}"
        if each.secret_ref
        else f"{each.name}=***"
        if each.sensitive
        else f"{each.name}={shlex.quote(each.value)}"
        for each in run.variables
    )


def selectors_of(spec: spec_pb2.RunSpec) -> str:
    texts = []
    for selector in spec.selectors:
        values = "|".join(selector.values)
        word = enum_word(selector, "operator")
        sign = {"IN": f"={values}", "NOT_IN": f"!={values}", "EXISTS": ""}.get(word, f" {word} {values}")
        texts.append(f"{selector.key}{sign}")
    return ",".join(texts)


def env_of(spec: spec_pb2.RunSpec) -> str:
    """Names with their values; of a secret only its name."""
    parts = (
        f"{variable.name}=secret:{variable.secret_ref}"
        if variable.secret_ref
        else f"{variable.name}={shlex.quote(variable.value)}"
        for variable in spec.env
    )
    return " ".join(parts)


def retry_of(spec: spec_pb2.RunSpec) -> str:
    """How often it is tried at most, and after which ends."""
    retry = spec.retry
    if retry.max_attempts <= 1:
        return ""
    pause = f", after {written_duration(to_seconds(retry.backoff))}" if retry.HasField("backoff") else ""
    return f"up to {retry.max_attempts} attempts{pause}" + (f" ({', '.join(retry.retry_on)})" if retry.retry_on else "")


def loss_of(spec: spec_pb2.RunSpec) -> str:
    """Only what the spec says otherwise than usual."""
    if spec.loss.never:
        return "it waits for it for ever"
    word = enum_word(spec.loss, "on_lost").lower()
    after = f" after {written_duration(to_seconds(spec.loss.lost_after))}" if spec.loss.HasField("lost_after") else ""
    return f"{word}{after}" if word or after else ""


def exit_of(run: run_pb2.Run | run_pb2.Attempt) -> str:
    if run.HasField("signal"):
        return f"signal {run.signal}"
    return str(run.exit_code) if run.HasField("exit_code") else ""


def run_cause(run: run_pb2.Run) -> str:
    if run.waiting_because and run.is_active:
        return run.waiting_because
    return end_cause(run)


def end_cause(run: run_pb2.Run | run_pb2.Attempt) -> str:
    """Why it ended; a good end needs no reason."""
    return "" if state_word(run) == "SUCCEEDED" else reason_sentence(run)


def run_runner(run: run_pb2.Run) -> str:
    return run.attempts[0].runner_name if run.attempts else ""


def yes_no(value: bool) -> str:
    return "yes" if value else "no"


def progress_of(run: run_pb2.Run | run_pb2.Attempt) -> str:
    """40 %, compiling, file 4 of 10; how old it is, only while the run lives."""
    if not run.HasField("progress"):
        return ""
    told = run.progress
    percent = f"{told.percent:g} %" if told.HasField("percent") else ""
    return ", ".join(filter(None, (percent, told.stage, told.note)))


RUN = View(
    columns=(
        Column("ID", lambda run: Id(run.id)),
        Column("STATE", lambda run: State(state_word(run))),
        Column("TASK", lambda run: run_title(run)),
        Column("TRIGGER", lambda run: enum_word(run, "trigger_type").lower()),
        Column("CREATED", lambda run: when(run, "created_at")),
        Column("DURATION", lambda run: span(run, "duration")),
        Column("EXIT", exit_of),
        Column("WHY", run_cause),
    ),
    lines=(
        Column("id", lambda run: run.id),
        Column("state", lambda run: State(state_word(run))),
        Column("reason", lambda run: enum_word(run, "reason")),
        Column("why", run_cause),
        Column("exit", exit_of),
        Column("task", lambda run: run.task_name),
        Column("template", template_of),
        Column("title", lambda run: run.options.title),
        Column("command", run_command),
        Column("variables", variables_of),
        Column("selectors", lambda run: selectors_of(run.spec)),
        Column("runner", run_runner),
        Column("labels", lambda run: pairs(run.options.labels)),
        Column("trigger", lambda run: enum_word(run, "trigger_type").lower()),
        Column("metadata", lambda run: pairs(run.options.trigger_metadata)),
        Column("created by", lambda run: run.created_by),
        Column("created", lambda run: when(run, "created_at")),
        Column("not before", lambda run: when(run, "not_before") if state_word(run) == "QUEUED" else ""),
        Column("started", lambda run: when(run, "started_at")),
        Column("completed", lambda run: when(run, "completed_at")),
        Column("settled", lambda run: when(run, "settled_at")),
        Column("duration", lambda run: span(run, "duration")),
        Column("cancelled by", lambda run: run.cancelled_by),
        Column("cancel note", lambda run: run.cancel_note),
        Column("retry of", lambda run: run.retry_of),
        Column("retries", lambda run: str(run.retry_count or "")),
        Column("infra retries", lambda run: str(run.infra_retries or "")),
        Column("schedule", lambda run: run.schedule_id),
        Column("scheduled for", lambda run: when(run, "scheduled_time")),
        Column("progress", progress_of),
        Column("result", lambda run: run.result_data),
        Column("result error", lambda run: run.result_error),
        Column("links", lambda run: ", ".join(link.url for link in run.links)),
    ),
    name=lambda run: str(run.id),
)


def rule_of(schedule: schedule_pb2.Schedule) -> str:
    match schedule.WhichOneof("when"):
        case "cron":
            return f"cron {schedule.cron}"
        case "every":
            return f"every {written_duration(to_seconds(schedule.every))}"
        case "once":
            return f"once {iso(to_datetime(schedule.once))}"
        case _:
            return ""


def catch_up_of(schedule: schedule_pb2.Schedule) -> str:
    word = enum_word(schedule, "catch_up").lower()
    return f"{word}, at most {schedule.max_catch_up}" if schedule.max_catch_up else word


SCHEDULE = View(
    columns=(
        Column("NAME", lambda schedule: schedule.name),
        Column("TASK", lambda schedule: schedule.task_name),
        Column("WHEN", rule_of),
        Column("ZONE", lambda schedule: schedule.time_zone),
        Column("STATE", lambda schedule: State("paused" if schedule.paused else "active")),
        Column("NEXT", lambda schedule: when(schedule, "next_fire_at")),
        Column("LAST", lambda schedule: when(schedule, "last_fired_at")),
    ),
    lines=(
        Column("name", lambda schedule: schedule.name),
        Column("id", lambda schedule: schedule.id),
        Column("task", lambda schedule: schedule.task_name),
        Column("when", rule_of),
        Column("zone", lambda schedule: schedule.time_zone),
        Column("overlap", lambda schedule: enum_word(schedule, "overlap").lower()),
        Column("catch up", catch_up_of),
        Column("starts", lambda schedule: when(schedule, "start_at")),
        Column("ends", lambda schedule: when(schedule, "end_at")),
        Column("jitter", lambda schedule: span(schedule, "jitter") if to_seconds(schedule.jitter) else ""),
        Column("variables", lambda schedule: pairs({k: v.string_value for k, v in schedule.variables.items()})),
        Column("pauses after", lambda schedule: str(schedule.pause_after_failures or "")),
        Column("failures", lambda schedule: str(schedule.failures or "")),
        Column("state", lambda schedule: State("paused" if schedule.paused else "active")),
        Column("pause note", lambda schedule: schedule.pause_note),
        Column("next", lambda schedule: when(schedule, "next_fire_at")),
        Column("last", lambda schedule: when(schedule, "last_fired_at")),
        Column("last run", lambda schedule: schedule.last_run_id),
        Column("created by", lambda schedule: schedule.created_by),
        Column("created", lambda schedule: when(schedule, "created_at")),
        Column("etag", lambda schedule: schedule.etag),
    ),
    name=lambda schedule: str(schedule.name),
)

PROJECT = View(
    columns=(
        Column("NAME", lambda project: project.name),
        Column("LIMIT", lambda project: limit_text(project.concurrency) if project.HasField("concurrency") else ""),
        Column("DESCRIPTION", lambda project: project.description),
        Column("CREATED", lambda project: when(project, "created_at")),
        Column("ID", lambda project: project.id),
    ),
    lines=(
        Column("name", lambda project: project.name),
        Column("id", lambda project: project.id),
        Column("description", lambda project: project.description),
        Column("limit", lambda project: limit_text(project.concurrency) if project.HasField("concurrency") else "none"),
        Column("kept", retention_text),
        Column("created by", lambda project: project.created_by),
        Column("created", lambda project: when(project, "created_at")),
        Column("updated", lambda project: when(project, "updated_at")),
        Column("etag", lambda project: project.etag),
    ),
    name=lambda project: str(project.name),
)


JOIN_TOKEN = View(
    columns=(
        Column("ID", lambda token: token.id),
        Column("STATE", lambda token: State("used" if token.HasField("used_at") else "unused")),
        Column("POOL", lambda token: token.pool),
        Column("LABELS", lambda token: pairs(token.granted_labels)),
        Column("CREATED", lambda token: when(token, "created_at")),
        Column("EXPIRES", lambda token: when(token, "expires_at")),
    ),
    name=lambda token: str(token.id),
)


def token_state(token: access_pb2.Token) -> Cell:
    return State("revoked" if token.HasField("revoked_at") else "active")


TOKEN = View(
    columns=(
        Column("ID", lambda token: token.id),
        Column("PRINCIPAL", lambda token: token.principal_name),
        Column("STATE", token_state),
        Column("CREATED", lambda token: when(token, "created_at")),
        Column("EXPIRES", lambda token: when(token, "expires_at")),
        Column("USED", lambda token: when(token, "last_used_at")),
        Column("NOTE", lambda token: token.note),
    ),
    name=lambda token: str(token.id),
)

PRINCIPAL = View(
    columns=(
        Column("NAME", lambda principal: principal.name),
        Column("KIND", lambda principal: enum_word(principal, "kind").lower()),
        Column("ADMIN", lambda principal: yes_no(principal.admin)),
        Column("STATE", lambda principal: State("disabled" if principal.HasField("disabled_at") else "active")),
        Column("PROJECTS", lambda principal: ",".join(principal.project_ids)),
        Column("CREATED", lambda principal: when(principal, "created_at")),
        Column("ID", lambda principal: principal.id),
    ),
    name=lambda principal: str(principal.name),
)

SECRET = View(
    columns=(
        Column("NAME", lambda secret: secret.name),
        Column("VERSION", lambda secret: str(secret.version)),
        Column("CREATED", lambda secret: when(secret, "created_at")),
        Column("UPDATED", lambda secret: when(secret, "updated_at")),
    ),
    name=lambda secret: str(secret.name),
)

EVENT = View(
    columns=(
        Column("AT", lambda change: when(change.event, "at")),
        Column("RUN", lambda change: Id(change.run.id)),
        Column("EVENT", lambda change: enum_word(change.event, "type")),
        Column("STATE", lambda change: State(state_word(change.run))),
        Column("WHY", lambda change: change.event.note or enum_word(change.event, "reason")),
    ),
    name=lambda change: str(change.run.id),
)

AUDIT_EVENT = View(
    columns=(
        Column("NUMBER", lambda event: str(event.seq)),
        Column("AT", lambda event: when(event, "at")),
        Column("WHO", lambda event: event.principal or event.principal_id),
        Column("METHOD", lambda event: event.method),
        Column("ON", lambda event: " ".join(event.resources)),
        Column("CODE", lambda event: event.code + (f" x{event.count}" if event.count > 1 else "")),
        Column("FROM", lambda event: event.peer),
        Column("REQUEST", lambda event: event.request_id),
    ),
    name=lambda event: str(event.seq),
)
