"""How far the database had come, in a file beside it: an older database in its place was restored from a backup."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

FILE_NAME: Final = "high-water.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class HighWater:
    """The newest event and the generation that were seen committed in the database of this identity."""

    instance_id: str
    generation: int
    event: int


def load(state_directory: Path) -> HighWater | None:
    """None if there is no mark that can be read: then nothing is known, and nothing is concluded."""
    try:
        kept = json.loads((state_directory / FILE_NAME).read_bytes())
        return HighWater(
            instance_id=str(kept["instance_id"]), generation=int(kept["generation"]), event=int(kept["event"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(state_directory: Path, mark: HighWater) -> None:
    """Whole or not at all. Not synced: a mark that a power cut takes back is an older one. Raises OSError."""
    fresh = state_directory / f"{FILE_NAME}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(json.dumps(asdict(mark)))
    fresh.rename(state_directory / FILE_NAME)
