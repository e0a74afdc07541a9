"""What a server can do only with an extra installed: which are there, and what is refused where they are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from control_plane.domain.errors import FieldViolation
from control_plane.domain.names import violation
from control_plane.domain.task import NotificationSettings, ReportFormat, ReportSettings

NO_PDF = "this server cannot make PDF: install banksman[pdf]"
NO_CHANNELS = "this server has no support for other channels: install banksman[notify]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """Which of them are installed."""

    pdf: bool = True
    channels: bool = True


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
