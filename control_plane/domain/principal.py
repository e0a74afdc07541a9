"""Who calls: principals and the tokens that belong to them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from control_plane.domain.ids import JoinTokenId, PrincipalId, ProjectId, RunnerId, TokenId


class PrincipalKind(StrEnum):
    USER = "USER"
    SERVICE = "SERVICE"
    RUNNER = "RUNNER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A user, a service or a runner. An admin may use every project; others those that are listed."""

    id: PrincipalId
    kind: PrincipalKind
    name: str
    admin: bool = False
    project_ids: tuple[ProjectId, ...] = ()
    created_at: datetime
    # Its tokens open nothing since then.
    disabled_at: datetime | None = None

    def may_use(self, project_id: ProjectId) -> bool:
        return self.admin or project_id in self.project_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The verified principal of one call, with the request id that the call carries (empty: none)."""

    principal: Principal
    token_id: TokenId | None = None
    runner_id: RunnerId | None = None
    # Of the runner's credential; a session opens only while it is still the stored one.
    credential_generation: int = 0
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An API token as stored: never its secret, only the secret's SHA-256 (hex)."""

    id: TokenId
    principal_id: PrincipalId
    principal_name: str = ""
    secret_digest: str
    note: str = ""
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """Redeemed once by a runner that enrols."""

    id: JoinTokenId
    pool: str = ""
    # Labels that may be claimed; empty means any.
    granted_labels: Mapping[str, str] = field(default_factory=dict)
    # Empty means all projects.
    allowed_project_ids: tuple[ProjectId, ...] = ()
    created_by: PrincipalId
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None
