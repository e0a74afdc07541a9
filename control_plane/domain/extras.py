"""What not every server does: which extras are installed, where webhooks may go, and what is refused elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from control_plane.domain.errors import FieldViolation
from control_plane.domain.hooks import HookRules, why_not
from control_plane.domain.names import violation
from control_plane.domain.task import NotificationSettings, ReportFormat, ReportSettings

NO_PDF = "this server cannot make PDF: install banksman[pdf]"
NO_CHANNELS = "this server has no support for other channels: install banksman[notify]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """Which of them are installed, and the rules of webhooks; without rules none is refused before its delivery."""

    pdf: bool = True
    channels: bool = True
    hooks: HookRules | None = None


def check_extras(
    extras: Extras,
    report: ReportSettings | None,
    notifications: Sequence[NotificationSettings] | None,
    path: str,
) -> Iterator[FieldViolation]:
    """What a task asks for that this server cannot do; None is not looked at."""
    if report is not None and not extras.pdf:
        for index, form in enumerate(report.formats):
            if form is ReportFormat.PDF:
                yield violation(f"{path}.report.formats[{index}]", NO_PDF)
    for index, each in enumerate(() if extras.channels else notifications or ()):
        if each.secret_ref and not each.webhook_url:
            yield violation(f"{path}.notifications[{index}].secret_ref", NO_CHANNELS)
    for index, each in enumerate(notifications or ()):
        if extras.hooks is not None and (said := why_not(each.webhook_url, extras.hooks)):
            yield violation(f"{path}.notifications[{index}].webhook_url", said)
