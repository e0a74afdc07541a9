"""Fields of a message that have no meaning, named from the inside out."""

from __future__ import annotations

from control_plane.domain.errors import FieldViolation


class BadFields(Exception):
    """Fields of a message that have no meaning here; paths are relative to that message.

    `rest` is what the message says without them, so that the rest can be judged in the same answer; None: nothing.
    """

    def __init__(self, *violations: FieldViolation, rest: object = None) -> None:
        super().__init__(", ".join(violation.field for violation in violations))
        self.violations = violations
        self.rest = rest


def within(outer: str, violation: FieldViolation) -> FieldViolation:
    """The violation as seen from the message that holds `outer`."""
    separator = "" if not violation.field or violation.field.startswith("[") else "."
    return FieldViolation(field=f"{outer}{separator}{violation.field}", description=violation.description)
