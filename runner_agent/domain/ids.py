"""Names of things: runs and attempts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

RunId = NewType("RunId", str)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class AttemptKey:
    """One try of a run. Every statement about an attempt carries it; `lease_epoch` is its fence."""

    run_id: RunId
    lease_epoch: int

    def __str__(self) -> str:
        return f"{self.run_id}.{self.lease_epoch}"
