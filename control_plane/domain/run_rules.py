"""What a caller may say about a run beside its spec, and about its cancel."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from control_plane.domain import limits
from control_plane.domain.errors import FieldViolation
from control_plane.domain.ids import RunId
from control_plane.domain.names import check_labels, check_text, violation
from control_plane.domain.run import Link, RunOptions
from control_plane.domain.spec_rules import check_grace, check_priority, check_signal
from control_plane.domain.stops import CancelOrder

_FARTHEST = timedelta(days=3_650)
# More than so many runs are only counted.
_NAMED = 5
_SCHEMES = ("http://", "https://")


def not_over(active: Sequence[RunId]) -> str:
    """That these runs, at least one, are in the way of what was asked for."""
    named = ", ".join(active[:_NAMED])
    if len(active) == 1:
        return f"Its run {named} is not over yet."
    such_as = "" if len(active) <= _NAMED else "such as "
    return f"{len(active)} of its runs are not over yet: {such_as}{named}."


def validate_options(options: RunOptions, now: datetime, path: str = "options") -> tuple[FieldViolation, ...]:
    return tuple(_options(options, now, path))


def validate_cancel(order: CancelOrder) -> tuple[FieldViolation, ...]:
    return (
        *check_text(order.note, "note", limits.CANCEL_NOTE_BYTES),
        *check_grace(order.grace_s, "grace"),
        *check_signal(order.signal, "signal"),
    )


def _options(options: RunOptions, now: datetime, path: str) -> Iterator[FieldViolation]:
    if len(options.title) > limits.TITLE_CHARACTERS or not (options.title == "" or options.title.isprintable()):
        yield violation(f"{path}.title", f"must be at most {limits.TITLE_CHARACTERS} printable characters")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in options.trigger_metadata.items())
    if size > limits.TRIGGER_METADATA_BYTES:
        most = limits.TRIGGER_METADATA_BYTES
        yield violation(f"{path}.trigger_metadata", f"must have at most {most} bytes in all, has {size}")
    if options.priority is not None:
        yield from check_priority(options.priority, f"{path}.priority")
    yield from check_labels(options.labels, f"{path}.labels")
    yield from _links(options.links, f"{path}.links")
    yield from _instants(options, now, path)


def _instants(options: RunOptions, now: datetime, path: str) -> Iterator[FieldViolation]:
    not_before, deadline = options.not_before, options.deadline
    for name, at in (("not_before", not_before), ("deadline", deadline)):
        if at is not None and at > now + _FARTHEST:
            yield violation(f"{path}.{name}", "must lie within ten years")
    if deadline is not None and deadline <= now:
        yield violation(f"{path}.deadline", "must lie in the future")
    elif deadline is not None and not_before is not None and deadline <= not_before:
        yield violation(f"{path}.deadline", "must lie behind not_before")


def _links(links: tuple[Link, ...], path: str) -> Iterator[FieldViolation]:
    if len(links) > limits.LINKS:
        yield violation(path, f"at most {limits.LINKS} links, are {len(links)}")
    for index, link in enumerate(links[: limits.LINKS]):
        if not link.url.startswith(_SCHEMES):
            yield violation(f"{path}[{index}].url", "must begin with http:// or https://")
        yield from check_text(link.url, f"{path}[{index}].url", limits.URL_BYTES)
        yield from check_text(link.rel, f"{path}[{index}].rel", limits.LABEL_KEY_CHARACTERS)
        yield from check_text(link.title, f"{path}[{index}].title", limits.URL_BYTES)
