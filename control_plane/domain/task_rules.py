"""What a valid task is, beside its spec: every offending field is named."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from control_plane.domain import limits
from control_plane.domain.errors import FieldViolation
from control_plane.domain.names import check_labels, check_name, check_secret_name, check_tags, check_text, violation
from control_plane.domain.overrides import OVERRIDABLE
from control_plane.domain.spec import RunSpec
from control_plane.domain.task import NotificationSettings, ReportSettings, Task
from control_plane.domain.variable_rules import check_declared, check_places, check_rendered


def check_task(task: Task, path: str = "task") -> Iterator[FieldViolation]:
    """Everything that is wrong with a task's own fields."""
    yield from check_name(task.name, f"{path}.name")
    yield from check_text(task.description, f"{path}.description", limits.DESCRIPTION_BYTES)
    yield from check_labels(task.labels, f"{path}.labels")
    yield from check_tags(task.tags, f"{path}.tags")
    yield from check_declared(task.variables, f"{path}.variables")
    yield from _overrides(task.allowed_overrides, f"{path}.allowed_overrides")
    yield from _report(task.report, f"{path}.report")
    if len(task.notifications) > limits.NOTIFICATIONS:
        yield violation(f"{path}.notifications", f"at most {limits.NOTIFICATIONS}, are {len(task.notifications)}")
    for index, settings in enumerate(task.notifications[: limits.NOTIFICATIONS]):
        yield from _notifications(settings, f"{path}.notifications[{index}]")


def check_template(task: Task, spec: RunSpec, path: str = "task") -> Iterator[FieldViolation]:
    """Whether variables stand where they may, and what comes out with the defaults."""
    allow = task.allow_shell_substitution
    yield from check_places(spec, f"{path}.spec", allow_shell_substitution=allow)
    defaults = {each.name: each.default_value for each in task.variables if each.default_value is not None}
    if defaults:
        known = {name: value for name, value in defaults.items() if len(value.encode()) <= limits.VARIABLE_BYTES}
        # What stands in a shell's program was named above already.
        yield from check_rendered(spec, known, f"{path}.spec", allow_shell_substitution=True, refuse_unknown=False)


def _overrides(names: tuple[str, ...], field: str) -> Iterator[FieldViolation]:
    for index, name in enumerate(names):
        if name not in OVERRIDABLE:
            yield violation(f"{field}[{index}]", f"must be one of {', '.join(OVERRIDABLE)}")
        elif name in names[:index]:
            yield violation(f"{field}[{index}]", f"{name} is given twice")


def _report(report: ReportSettings, path: str) -> Iterator[FieldViolation]:
    if report.enabled and not report.formats:
        yield violation(f"{path}.formats", "must name at least one format when reports are enabled")
    for index, each in enumerate(report.formats):
        if each in report.formats[:index]:
            yield violation(f"{path}.formats[{index}]", f"{each} is given twice")


def _notifications(settings: NotificationSettings, path: str) -> Iterator[FieldViolation]:
    if not settings.events:
        yield violation(f"{path}.events", "must name at least one event")
    for index, event in enumerate(settings.events):
        if event in settings.events[:index]:
            yield violation(f"{path}.events[{index}]", f"{event} is given twice")
    if not settings.webhook_url and not settings.secret_ref:
        yield violation(path, "webhook_url, secret_ref or both must be given")
    if settings.secret_ref:
        yield from check_secret_name(settings.secret_ref, f"{path}.secret_ref")
    if settings.webhook_url:
        yield from _url(settings.webhook_url, f"{path}.webhook_url")


def _url(url: str, field: str) -> Iterator[FieldViolation]:
    yield from check_text(url, field, limits.URL_BYTES)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        yield violation(field, "is not a URL")
        return
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        yield violation(field, "must be an http:// or https:// URL with a host")
    if "@" in parts.netloc:
        yield violation(field, "must not hold a user or a password: keep them in a secret")
