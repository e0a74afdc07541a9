"""Projects that calls name again and again, read once."""

from __future__ import annotations

from control_plane.domain.project import Project

_PROJECTS_KEPT = 1_024


class KnownProjects:
    """Projects by what callers call them, as they are stored: each write of a project forgets all. Loop's thread only.

    One server owns its database, so nobody else can change them.
    """

    def __init__(self) -> None:
        self._by_text: dict[str, Project] = {}
        self._writes = 0

    def get(self, text: str) -> Project | None:
        return self._by_text.get(text)

    def begin(self) -> int:
        """Before a read: what `keep` wants to be told."""
        return self._writes

    def keep(self, text: str, project: Project, begun: int) -> None:
        """Remember what was read, unless a project was written since the read began."""
        if begun == self._writes and len(self._by_text) < _PROJECTS_KEPT:
            self._by_text[text] = project

    def forget(self) -> None:
        """A project was written."""
        self._writes += 1
        self._by_text.clear()
