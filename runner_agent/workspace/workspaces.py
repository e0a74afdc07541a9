"""Where attempts work: `workspaces/<run>.<epoch>/{work,scripts}`. `work` begins empty and is the child's directory."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from runner_agent.workspace.removal import NotRemoved, remove_tree

ROOT = "workspaces"
_WORK = "work"
_SCRIPTS = "scripts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """One attempt's directories."""

    work: Path
    scripts: Path


class Workspaces:
    """All workspaces of a state directory. `name` is that of the run directory."""

    def __init__(self, state_dir: Path) -> None:
        self.root = state_dir / ROOT

    def open(self) -> None:
        """Make the root, for us alone. Raises OSError."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def place(self, name: str) -> Workspace:
        """Where an attempt's directories are or will be."""
        return Workspace(work=self.root / name / _WORK, scripts=self.root / name / _SCRIPTS)

    def create(self, name: str, scripts: Mapping[str, str]) -> Workspace:
        """A fresh workspace with these scripts, each of mode 0700. What an aborted try has left is removed first.

        Raises OSError.
        """
        self.make(name)
        return self.add_scripts(name, scripts)

    def make(self, name: str) -> None:
        """A fresh workspace without scripts. Raises OSError."""
        place = self.place(name)
        try:
            os.mkdir(self.root / name, 0o700)
        except FileExistsError:
            self.remove(name)
            os.mkdir(self.root / name, 0o700)
        os.mkdir(place.work, 0o700)

    def add_scripts(self, name: str, scripts: Mapping[str, str]) -> Workspace:
        """Put scripts into a workspace that has none yet. Raises OSError."""
        place = self.place(name)
        if scripts:
            os.mkdir(place.scripts, 0o700)
        for script, text in scripts.items():
            descriptor = os.open(
                place.scripts / script, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o700
            )
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode("utf-8", "surrogateescape"))
        return place

    def remove(self, name: str) -> None:
        """Remove a workspace; a missing one is fine. Raises NotRemoved."""
        remove_tree(str(self.root / name))

    def remove_empty(self, name: str) -> bool:
        """Remove a workspace into which nothing was ever put; False if there is something, or it cannot be removed.

        The kernel refuses to remove what is not empty or is mounted upon, so that nothing needs to be looked at.
        """
        place = self.root / name
        for directory in (place / _WORK, place):
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True

    def sweep(self, wanted: Collection[str]) -> tuple[str, ...]:
        """Remove every workspace whose attempt is not held any more; names what could not be removed."""
        left: list[str] = []
        for name in sorted(set(os.listdir(self.root)) - set(wanted)):
            try:
                self.remove(name)
            except NotRemoved as error:
                left.append(str(error))
        return tuple(left)
