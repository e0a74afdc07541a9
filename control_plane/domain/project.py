"""A project: the namespace of tasks, runs, secrets and permissions."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from control_plane.domain import limits
from control_plane.domain.concurrency import ConcurrencyLimit
from control_plane.domain.errors import FieldViolation
from control_plane.domain.ids import PrincipalId, ProjectId
from control_plane.domain.names import violation

DEFAULT_PROJECT_NAME = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long what runs leave is kept, in seconds from when they settled; None and 0: as the server is set up."""

    runs_s: float | None = None
    logs_s: float | None = None
    log_bytes: int = 0
    artifacts_s: float | None = None


def check_retention(found: Retention, path: str) -> Iterator[FieldViolation]:
    """Every offending field."""
    low, high = limits.RETENTION_SHORTEST_S, limits.RETENTION_LONGEST_S
    for name, kept_s in (("runs", found.runs_s), ("logs", found.logs_s), ("artifacts", found.artifacts_s)):
        if kept_s is not None and not low <= kept_s <= high:
            yield violation(f"{path}.{name}", "must be 1 s to 3650 days")
    if not 0 <= found.log_bytes <= limits.RETENTION_LARGEST_BYTES:
        yield violation(f"{path}.log_bytes", f"must be 0 to {limits.RETENTION_LARGEST_BYTES}, is {found.log_bytes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    id: ProjectId
    name: str
    description: str = ""
    created_by: PrincipalId
    created_at: datetime
    updated_at: datetime
    etag: str
    # Over all of its runs; None: as many as there is room for.
    concurrency: ConcurrencyLimit | None = None
    retention: Retention = field(default_factory=Retention)
