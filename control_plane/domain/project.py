"""A project: the namespace of tasks, runs, secrets and permissions."""

from dataclasses import dataclass
from datetime import datetime

from control_plane.domain.ids import PrincipalId, ProjectId

DEFAULT_PROJECT_NAME = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    id: ProjectId
    name: str
    description: str = ""
    created_by: PrincipalId
    created_at: datetime
    updated_at: datetime
    etag: str
