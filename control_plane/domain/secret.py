"""A secret of a project. Its value is sealed at rest and leaves only inside an Assignment."""

from dataclasses import dataclass
from datetime import datetime

from control_plane.domain.ids import PrincipalId, ProjectId


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """What may be shown of a secret."""

    name: str
    project_id: ProjectId
    version: int
    created_by: PrincipalId
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSecret:
    """A secret with its encrypted value, as stored."""

    secret: Secret
    sealed: bytes
