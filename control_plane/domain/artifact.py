"""Files that an attempt leaves: what the spec names, what is stored, and when waiting for them ends."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from control_plane.domain.attempt import Attempt
from control_plane.domain.copies import replace
from control_plane.domain.ids import ArtifactId, PrincipalId, ProjectId, RunId
from control_plane.domain.session import ExitOutcome

# Without any progress; and in all, from the end of the attempt.
WAIT_S = 3_600.0
LONGEST_WAIT_S = 86_400.0
CHUNK_BYTES = 256 << 10
NOTES = 100
NOTE_CHARACTERS = 1_024
NAME_BYTES = 1_024

# After these nothing of the spec's own was executed: there is nothing to upload.
_NOTHING_LEFT = frozenset({ExitOutcome.NOT_STARTED, ExitOutcome.START_FAILED})


class ArtifactState(StrEnum):
    UPLOADING = "UPLOADING"
    COMPLETE = "COMPLETE"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactLimits:
    """What one attempt may leave."""

    file_bytes: int = 2 << 30
    total_bytes: int = 10 << 30
    files: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file of an attempt. Readers see it when it is COMPLETE. `created_by`: who made the run."""

    id: ArtifactId
    project_id: ProjectId
    created_by: PrincipalId
    run_id: RunId
    lease_epoch: int
    name: str
    size_bytes: int
    sha256: str
    executable: bool = False
    state: ArtifactState = ArtifactState.UPLOADING
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """A file that a runner is about to send."""

    name: str
    size_bytes: int
    sha256: str
    executable: bool = False


def awaiting(attempt: Attempt, outcome: ExitOutcome, now: datetime) -> Attempt:
    """The attempt is over and left something: it is waited for its artifacts, for a while."""
    if outcome in _NOTHING_LEFT:
        return attempt
    return replace(attempt, artifacts_due_at=now + timedelta(seconds=WAIT_S))


def still_coming(attempt: Attempt, now: datetime) -> Attempt:
    """Something of them has come: the patience begins anew, though not for ever."""
    if attempt.artifacts_due_at is None:
        return attempt
    latest = (attempt.ended_at or now) + timedelta(seconds=LONGEST_WAIT_S)
    due_at = min(now + timedelta(seconds=WAIT_S), latest)
    return replace(attempt, artifacts_due_at=max(due_at, attempt.artifacts_due_at))


def refusal(wanted: Announced, stored: tuple[Artifact, ...], limits: ArtifactLimits) -> str:
    """Why the file is not taken; empty if it is. `stored`: what there is of the same attempt, under other names."""
    name = wanted.name
    parts = name.split("/")
    if not name.isprintable() or len(name.encode()) > NAME_BYTES or any(part in ("", ".", "..") for part in parts):
        return "its name is not a plain relative path"
    if len(wanted.sha256) != 64 or set(wanted.sha256) - set("0123456789abcdef"):
        return "its hash is no SHA-256"
    if not 0 <= wanted.size_bytes <= limits.file_bytes:
        return f"it has {wanted.size_bytes} bytes, more than the {limits.file_bytes} that a file may have"
    if len(stored) >= limits.files:
        return f"the run has {limits.files} artifacts already"
    total = sum(each.size_bytes for each in stored) + wanted.size_bytes
    if total > limits.total_bytes:
        return f"with it the run's artifacts would have {total} bytes, more than the {limits.total_bytes} allowed"
    return ""
