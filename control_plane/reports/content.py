"""What a report tells, as JSON values: every other format is made from it. Sensitive values are not even read."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from datetime import datetime
from typing import TypeAlias

from control_plane.domain.attempt import Attempt
from control_plane.domain.ids import AttemptKey
from control_plane.domain.progress import Progress
from control_plane.domain.report import RESULT_CHARACTERS, VALUE_CHARACTERS, LogExcerpt, RunFacts
from control_plane.domain.run import Run
from control_plane.domain.spec import RunSpec
from control_plane.domain.variable_rules import render_spec
from control_plane.reports.plain import cut, plain

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Content: TypeAlias = dict[str, Json]
VERSION = 1
MASK = "***"


def content(facts: RunFacts, logs: Mapping[AttemptKey, LogExcerpt]) -> Content:
    """The whole report."""
    run = facts.run
    return {
        "report_version": VERSION,
        "run": _run(facts),
        "task": {"id": run.task_id, "name": run.task_name, "tags": list(run.tags)},
        "project": {"id": run.project_id, "name": facts.project_name},
        "commands": _commands(run, facts.spec),
        "variables": _variables(run),
        "timing": _timing(run),
        "attempts": [_attempt(each) for each in facts.attempts],
        "result": _result(run),
        "progress": _progress(run.progress),
        "artifacts": _artifacts(facts),
        "artifacts_left_out": facts.artifacts_left_out,
        "events": [
            {
                "at": _at(each.at),
                "type": str(each.type),
                "attempt": each.lease_epoch,
                "reason": None if each.reason is None else str(each.reason),
                "actor": plain(each.actor),
                "note": cut(plain(each.note), VALUE_CHARACTERS),
            }
            for each in facts.events
        ],
        "events_left_out": facts.events_left_out,
        "logs": [_log(each, logs.get(each.key)) for each in facts.attempts if each.assigned_at is not None],
    }


def _run(facts: RunFacts) -> Content:
    run = facts.run
    return {
        "id": run.id,
        "title": plain(run.options.title),
        "state": str(run.state),
        "reason": None if run.reason is None else str(run.reason),
        "error_message": cut(plain(run.error_message), VALUE_CHARACTERS),
        "exit_code": run.exit_code,
        "signal": run.signal,
        "kill_confirmed": run.kill_confirmed,
        "trigger_type": str(run.trigger_type),
        "created_by": plain(facts.creator_name) or run.created_by,
        "cancelled_by": plain(run.cancelled_by),
        "cancel_note": plain(run.cancel_note),
        "retry_of": run.retry_of,
        "retry_count": run.retry_count,
        "labels": {plain(key): plain(value) for key, value in sorted(run.options.labels.items())},
        "links": [{"title": plain(each.title), "url": plain(each.url)} for each in run.options.links],
        "messages": run.total_messages,
        "tool_calls": run.total_tool_calls,
        "input_tokens": run.input_tokens,
        "output_tokens": run.output_tokens,
        "cost_usd": run.cost_usd,
    }


def _commands(run: Run, spec: RunSpec) -> list[Json]:
    """As they were executed; sensitive variables stay as they are written."""
    values = {each.name: each.value for each in run.variables or () if not each.sensitive and not each.secret_ref}
    whole = spec if run.variables is None else render_spec(spec, values)
    return [cut(plain(shlex.join(step.command.argv) or step.command.script), VALUE_CHARACTERS) for step in whole.steps]


def _variables(run: Run) -> list[Json]:
    return [
        {
            "name": each.name,
            "value": MASK if each.sensitive or each.secret_ref else cut(plain(each.value), VALUE_CHARACTERS),
            "sensitive": each.sensitive or bool(each.secret_ref),
        }
        for each in run.variables or ()
    ]


def _timing(run: Run) -> Content:
    return {
        "created_at": _at(run.created_at),
        "started_at": _at(run.started_at),
        "completed_at": _at(run.completed_at),
        "queued_s": _seconds(run.created_at, run.started_at or run.completed_at),
        "duration_s": _seconds(run.started_at, run.completed_at),
    }


def _attempt(attempt: Attempt) -> Content:
    return {
        "number": attempt.number,
        "lease_epoch": attempt.lease_epoch,
        "runner": plain(attempt.runner_name) or attempt.runner_id,
        "state": str(attempt.state),
        "reason": None if attempt.reason is None else str(attempt.reason),
        "error_message": cut(plain(attempt.error_message), VALUE_CHARACTERS),
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "started_at": _at(attempt.started_at),
        "ended_at": _at(attempt.ended_at),
        "duration_s": _seconds(attempt.started_at, attempt.ended_at),
        "cpu_s": attempt.cpu_s,
        "max_rss_bytes": attempt.max_rss_bytes or None,
        "steps": [
            {
                "index": step.index,
                "name": plain(step.name),
                "exit_code": step.exit_code,
                "signal": step.signal,
                "duration_s": _seconds(step.started_at, step.ended_at),
                "error_message": cut(plain(step.error_message), VALUE_CHARACTERS),
            }
            for step in attempt.steps
        ],
    }


def _result(run: Run) -> Json:
    """As JSON while it is small, else as the beginning of its text."""
    if not run.result_data:
        return {"error": plain(run.result_error)} if run.result_error else None
    if len(run.result_data) > RESULT_CHARACTERS:
        return cut(plain(run.result_data), RESULT_CHARACTERS)
    try:
        decoded: Json = json.loads(run.result_data)
    except ValueError:
        return plain(run.result_data)
    return decoded


def _progress(progress: Progress | None) -> Json:
    if progress is None:
        return None
    return {
        "percent": progress.percent,
        "stage": plain(progress.stage),
        "note": plain(progress.note),
        "updated_at": _at(progress.updated_at),
        "estimated": progress.estimated,
    }


def _artifacts(facts: RunFacts) -> list[Json]:
    """Runs choose the names of what they leave: they are text like any other."""
    numbers = {each.lease_epoch: each.number for each in facts.attempts}
    return [
        {
            "attempt": numbers.get(each.lease_epoch),
            "name": plain(each.name),
            "size_bytes": each.size_bytes,
            "sha256": each.sha256,
            "state": str(each.state),
        }
        for each in facts.artifacts
    ]


def _log(attempt: Attempt, excerpt: LogExcerpt | None) -> Content:
    shown = excerpt or LogExcerpt(missing="of older attempts no log is shown")
    return {
        "attempt": attempt.number,
        "bytes": attempt.log_bytes,
        "digest": attempt.log_digest,
        "complete": attempt.log_complete,
        "head": plain(shown.head),
        "left_out_bytes": shown.left_out_bytes,
        "tail": plain(shown.tail),
        "missing": shown.missing,
    }


def _at(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def _seconds(since: datetime | None, until: datetime | None) -> float | None:
    return None if since is None or until is None else round((until - since).total_seconds(), 6)
