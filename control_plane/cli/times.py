"""Points in time as people write them: 2h (from now), or an ISO date and time."""

from __future__ import annotations

import datetime

from control_plane.cli.durations import parse_duration
from control_plane.cli.errors import CliError


def parse_time(text: str, now: datetime.datetime, *, ahead: bool = False) -> datetime.datetime:
    """An aware time. A duration counts back from now, or forth with `ahead`; a time without a zone is local.

    "now" is now. Raises CliError when it is neither.
    """
    if text.strip().lower() == "now":
        return now
    try:
        distance = datetime.timedelta(seconds=parse_duration(text))
        return now + distance if ahead else now - distance
    except (ValueError, OverflowError):
        pass
    try:
        at = datetime.datetime.fromisoformat(text)
        return (at if at.tzinfo else at.astimezone()).astimezone(datetime.UTC)
    except (ValueError, OverflowError) as error:
        raise CliError(f"{text!r} is neither a duration such as 2h nor a time such as 2026-01-31T12:00:00Z") from error
