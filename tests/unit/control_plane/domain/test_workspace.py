"""What a spec may say of artifacts and of its workspace: at each limit and one beyond."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.domain import limits
from control_plane.domain.spec import Command, RunSpec, Step
from control_plane.domain.spec_rules import validate_spec, with_defaults
from control_plane.domain.workspace import ArtifactPattern, WorkspacePolicy, WorkspaceRemoval

PLAIN = RunSpec(steps=(Step(command=Command(argv=("true",))),))


def wrong(*paths: str) -> list[str]:
    spec = replace(PLAIN, artifacts=tuple(ArtifactPattern(path=path) for path in paths))
    return [violation.field for violation in validate_spec(spec)]


@pytest.mark.parametrize(
    "path", ["a", "a b/c.txt", "*.whl", "dist/", "dist/**/*.[ch]", "**", ".cache", "..a", "x" * 1_024, "ü" * 512]
)
def test_patterns_that_are_taken(path: str) -> None:
    assert wrong(path) == []


@pytest.mark.parametrize(
    "path",
    ["", "/", "/etc/passwd", "..", "../a", "a/..", "a/../b", "./a", "a//b", "a\nb", "a\0", "a**", "**b/c", "x" * 1_025],
)
def test_patterns_that_are_refused(path: str) -> None:
    assert wrong("fine", path) == ["spec.artifacts[1].path"]


def test_so_many_and_no_more() -> None:
    paths = [f"f{number}" for number in range(limits.ARTIFACT_PATTERNS + 1)]
    assert wrong(*paths[:-1]) == []
    assert wrong(*paths) == ["spec.artifacts"]
    assert wrong("a", "b", "a") == ["spec.artifacts[2].path"]


@pytest.mark.parametrize(("kept_s", "good"), [(1.0, True), (0.999, False), (2_592_000.0, True), (2_592_000.1, False)])
def test_how_long_a_workspace_may_stay(kept_s: float, good: bool) -> None:
    spec = replace(PLAIN, workspace=WorkspacePolicy(removal=WorkspaceRemoval.NEVER, keep_s=kept_s))
    found = [violation.field for violation in validate_spec(spec)]
    assert found == ([] if good else ["spec.workspace.keep"])


def test_defaults() -> None:
    assert with_defaults(PLAIN).workspace is None
    said = with_defaults(replace(PLAIN, workspace=WorkspacePolicy())).workspace
    assert said == WorkspacePolicy(removal=WorkspaceRemoval.ALWAYS, keep_s=limits.DEFAULT_WORKSPACE_KEPT_S)
