"""The options about what a run leaves behind: files that are kept with it, and its workspace."""

from __future__ import annotations

from typing import Protocol

import click

from control_plane.cli import contract
from control_plane.cli.commands import Seconds

SPEC_WORKSPACE = [
    click.option("--artifact", multiple=True, metavar="PATTERN", help="Keep these files, e.g. dist/*.whl; repeatable."),
    click.option("--require-artifact", multiple=True, metavar="PATTERN", help="As --artifact; fail if there is none."),
    click.option("--keep-workspace", type=click.Choice(["never", "on-failure", "always"]), help="Default: never."),
    click.option("--keep-workspace-for", type=Seconds(), help="How long it stays (default: 7d)."),
]
REMOVALS = {"never": "ALWAYS", "on-failure": "ON_SUCCESS", "always": "NEVER"}


class SaysWorkspace(Protocol):
    """What the command line said; None and () where it was silent."""

    @property
    def artifact(self) -> tuple[str, ...]: ...
    @property
    def require_artifact(self) -> tuple[str, ...]: ...
    @property
    def keep_workspace(self) -> str | None: ...
    @property
    def keep_workspace_for(self) -> float | None: ...


def set_workspace(given: SaysWorkspace, spec: contract.spec_pb2.RunSpec) -> None:
    """Patterns take the place of those that the spec has."""
    if given.artifact or given.require_artifact:
        del spec.artifacts[:]
    for path in given.artifact:
        spec.artifacts.add(path=path)
    for path in given.require_artifact:
        spec.artifacts.add(path=path, required=True)
    if given.keep_workspace is not None:
        removal = f"WORKSPACE_REMOVAL_{REMOVALS[given.keep_workspace]}"
        spec.workspace.removal = contract.spec_pb2.WorkspaceRemoval.Value(removal)
    if given.keep_workspace_for is not None:
        spec.workspace.keep.SetInParent()
        spec.workspace.keep.FromNanoseconds(round(given.keep_workspace_for * 1e9))
