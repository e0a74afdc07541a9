"""Field masks of updates: which fields a request wants to write."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from control_plane.domain.errors import FieldViolation, invalid_fields


def wanted_fields(paths: Sequence[str], known: Collection[str]) -> frozenset[str]:
    """The fields to write; an empty mask means all. Raises InvalidArgument naming each path that cannot be written."""
    if violations := unknown_fields(paths, known):
        raise invalid_fields(*violations)
    return frozenset(paths) or frozenset(known)


def unknown_fields(paths: Sequence[str], known: Collection[str]) -> tuple[FieldViolation, ...]:
    """Each path that cannot be written."""
    return tuple(
        FieldViolation(field=f"update_mask.paths[{index}]", description=f"{path[:80]!r} cannot be written")
        for index, path in enumerate(paths)
        if path not in known
    )
