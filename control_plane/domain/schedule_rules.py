"""What a schedule may say."""

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import available_timezones

from control_plane.domain import cron, limits
from control_plane.domain.errors import FieldViolation
from control_plane.domain.names import check_text
from control_plane.domain.schedule import Schedule, ScheduleDraft, Timed, fire_times

EVERY_SHORTEST_S = 1.0
EVERY_LONGEST_S = 366 * 86_400.0
JITTER_LONGEST_S = 86_400.0
MAX_CATCH_UP = 100
MAX_PAUSE_AFTER_FAILURES = 100
# In one backfill.
MOST_BACKFILLED = 1_000
# No schedule looks further ahead: calendars and zones beyond it are guesses.
FURTHEST = timedelta(days=36_525)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def validate_when(timed: Timed, *, now: datetime, prefix: str = "schedule") -> tuple[FieldViolation, ...]:
    """Everything that is wrong with a schedule's cron, every, once, time zone and window."""
    found: list[FieldViolation] = []

    def wrong(field: str, description: str) -> None:
        found.append(FieldViolation(field=f"{prefix}.{field}", description=description))

    if sum((bool(timed.cron), timed.every_s is not None, timed.once is not None)) != 1:
        wrong("when", "exactly one of cron, every and once must be given")
    if timed.cron:
        try:
            cron.check(timed.cron)
        except cron.CronError as error:
            wrong("cron", str(error))
    if timed.every_s is not None and not EVERY_SHORTEST_S <= timed.every_s <= EVERY_LONGEST_S:
        wrong("every", f"it must be from {EVERY_SHORTEST_S:g} s to {EVERY_LONGEST_S / 86_400:g} days")
    if timed.once is not None and timed.once <= now:
        wrong("once", "it lies in the past")
    if timed.time_zone not in _zones():
        wrong("time_zone", f"{timed.time_zone[:64]!r} is not an IANA time zone, such as Europe/Berlin")
    for name, at in (("once", timed.once), ("start_at", timed.start_at), ("end_at", timed.end_at)):
        if at is not None and at > now + FURTHEST:
            wrong(name, "it lies more than 100 years ahead")
        if at is not None and name != "once" and at < EARLIEST:
            wrong(name, "it lies before 1970")
    if not found:
        found += _window(timed, now, prefix)
    return tuple(found)


def _window(timed: Timed, now: datetime, prefix: str) -> list[FieldViolation]:
    """The window must hold an instant that is still to come."""
    if timed.start_at is None and timed.end_at is None:
        return []
    if timed.start_at is not None and timed.end_at is not None and timed.end_at <= timed.start_at:
        return [FieldViolation(field=f"{prefix}.end_at", description="it must lie behind start_at")]
    if next(fire_times(timed, anchor=timed.start_at or now, after=now), None) is None:
        field = "end_at" if timed.end_at is not None else "start_at"
        text = "nothing would fire between now and the end" if field == "end_at" else "nothing would fire from there on"
        return [FieldViolation(field=f"{prefix}.{field}", description=text)]
    return []


def validate_policies(schedule: Schedule | ScheduleDraft, prefix: str = "schedule") -> tuple[FieldViolation, ...]:
    """What is wrong with a schedule's numbers and note."""
    found = list(check_text(schedule.pause_note, f"{prefix}.pause_note", limits.CANCEL_NOTE_BYTES))

    def wrong(field: str, description: str) -> None:
        found.append(FieldViolation(field=f"{prefix}.{field}", description=description))

    if not 0.0 <= schedule.jitter_s <= JITTER_LONGEST_S:
        wrong("jitter", f"it must be from 0 to {JITTER_LONGEST_S / 3_600:g} hours")
    if not 0 <= schedule.max_catch_up <= MAX_CATCH_UP:
        wrong("max_catch_up", f"it must be from 0 to {MAX_CATCH_UP}")
    if not 0 <= schedule.pause_after_failures <= MAX_PAUSE_AFTER_FAILURES:
        wrong("pause_after_failures", f"it must be from 0 to {MAX_PAUSE_AFTER_FAILURES}")
    return tuple(found)
