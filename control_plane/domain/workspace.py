"""What a spec says about the directory that its attempts work in: what is kept of it, and whether it stays."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from control_plane.domain import limits
from control_plane.domain.copies import replace
from control_plane.domain.errors import FieldViolation
from control_plane.domain.names import violation


class WorkspaceRemoval(StrEnum):
    ALWAYS = "ALWAYS"
    ON_SUCCESS = "ON_SUCCESS"
    NEVER = "NEVER"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspacePolicy:
    """`keep_s`: how long one stays that is not removed at once."""

    removal: WorkspaceRemoval | None = None
    keep_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactPattern:
    """A file, a directory with all below it, or a pattern, relative to the workspace."""

    path: str
    required: bool = False


def with_workspace_defaults(policy: WorkspacePolicy | None) -> WorkspacePolicy | None:
    """None stays None: removed with the attempt."""
    if policy is None:
        return None
    removal = policy.removal or WorkspaceRemoval.ALWAYS
    return replace(
        policy, removal=removal, keep_s=limits.DEFAULT_WORKSPACE_KEPT_S if policy.keep_s is None else policy.keep_s
    )


def check_workspace(policy: WorkspacePolicy | None, field: str) -> Iterator[FieldViolation]:
    kept_s = None if policy is None else policy.keep_s
    if kept_s is not None and not limits.WORKSPACE_KEPT_SHORTEST_S <= kept_s <= limits.WORKSPACE_KEPT_LONGEST_S:
        yield violation(f"{field}.keep", f"must be 1 s to 30 d, is {kept_s:.12g} s")


def check_artifacts(patterns: tuple[ArtifactPattern, ...], field: str) -> Iterator[FieldViolation]:
    if len(patterns) > limits.ARTIFACT_PATTERNS:
        yield violation(field, f"at most {limits.ARTIFACT_PATTERNS}, are {len(patterns)}")
    seen: set[str] = set()
    for index, pattern in enumerate(patterns[: limits.ARTIFACT_PATTERNS]):
        path = f"{field}[{index}].path"
        wrong = _what_is_wrong(pattern.path)
        if wrong:
            yield violation(path, wrong)
        elif pattern.path in seen:
            yield violation(path, f"{pattern.path} is given twice")
        seen.add(pattern.path)


def _what_is_wrong(path: str) -> str:
    if not path:
        return "must not be empty"
    if len(path.encode()) > limits.ARTIFACT_PATTERN_BYTES:
        return f"must have at most {limits.ARTIFACT_PATTERN_BYTES} bytes, has {len(path.encode())}"
    if not path.isprintable():
        return "must be printable"
    if path.startswith("/"):
        return "must be relative to the workspace"
    parts = path.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        return 'must not have a part that is empty, "." or ".."'
    if any("**" in part and part != "**" for part in parts):
        return 'may have "**" only as a whole part'
    return ""
