"""A task: a saved definition of what to run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from control_plane.domain.ids import PrincipalId, ProjectId, TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task as stored; its spec is stored once by SHA-256 and loaded apart."""

    id: TaskId
    project_id: ProjectId
    name: str
    description: str = ""
    spec_sha256: str
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    active: bool = True
    created_by: PrincipalId
    created_at: datetime
    updated_at: datetime
    etag: str
    # A deleted task's row stays for its runs' history; its name is free again.
    deleted_at: datetime | None = None
