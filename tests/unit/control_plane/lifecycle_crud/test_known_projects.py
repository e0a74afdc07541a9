"""Projects are remembered between calls, and forgotten when one is written."""

from __future__ import annotations

from control_plane.domain.ids import PrincipalId, ProjectId
from control_plane.domain.project import Project
from control_plane.lifecycle import projects
from control_plane.lifecycle.known_projects import KnownProjects
from control_plane.lifecycle.projects import NewProject, ProjectChange
from tests.fakes.cases import NOW
from tests.unit.control_plane.lifecycle_crud.conftest import Stage

PROJECT = Project(id=ProjectId("p"), name="one", created_by=PrincipalId(""), created_at=NOW, updated_at=NOW, etag="1")


def test_what_was_read_before_a_write_is_not_kept_after_it() -> None:
    known = KnownProjects()
    begun = known.begin()
    known.forget()
    known.keep("one", PROJECT, begun)
    assert known.get("one") is None
    known.keep("one", PROJECT, known.begin())
    assert known.get("one") == PROJECT


async def test_each_write_of_a_project_forgets(stage: Stage) -> None:
    known = stage.house.projects

    def remember() -> None:
        known.keep("one", PROJECT, known.begin())
        assert known.get("one") == PROJECT

    remember()
    made = await projects.create(stage.house, stage.caller, NewProject(name="two"))
    assert known.get("one") is None
    remember()
    await projects.update(stage.house, made.id, ProjectChange(description="new"))
    assert known.get("one") is None
    remember()
    await projects.delete(stage.house, made.id)
    assert known.get("one") is None
