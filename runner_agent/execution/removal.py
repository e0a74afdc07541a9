"""Forgetting attempts, many at once: an empty workspace goes with the run directory, one with files takes its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner_agent.execution.run_directory import StateDirectory, StillLive
from runner_agent.workspace.workspaces import Workspaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """An attempt that is to be forgotten. `workspace`: with its workspace, which may have gone before.

    `patience_s`: for how long the thread may wait for the shim to let go; None: as long as the state directory does.
    """

    run_id: str
    epoch: int
    workspace: bool
    patience_s: float | None = None


class WorkspaceHasFiles(OSError):
    """Nothing was removed: what is in the workspace goes first, by itself."""


Removed = OSError | StillLive | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """Removes in a thread. Every call blocks on the disk."""

    state: StateDirectory
    workspaces: Workspaces

    def remove_all(self, leftovers: Sequence[Leftover]) -> list[Removed]:
        """Forget these; for each, what went wrong."""
        return [self._remove(leftover) for leftover in leftovers]

    def _remove(self, leftover: Leftover) -> Removed:
        name = self.state.path_of(leftover.run_id, leftover.epoch).name
        if leftover.workspace and not self.workspaces.remove_empty(name):
            return WorkspaceHasFiles(name)
        try:
            self.state.release(leftover.run_id, leftover.epoch, patience_s=leftover.patience_s)
        except (OSError, StillLive) as error:
            return error
        except Exception as error:  # noqa: BLE001 - a damaged directory must not end the removal of all others
            return OSError(f"{name} cannot be removed: {error!r}")
        return None
