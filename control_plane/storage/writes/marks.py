"""What lists are filtered by, as rows: tags under an empty key, labels under theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def marks(tags: Sequence[str], labels: Mapping[str, str]) -> list[tuple[str, str]]:
    """(key, value) of each, none twice."""
    return sorted({("", tag) for tag in tags} | set(labels.items()))
