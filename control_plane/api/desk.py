"""What every servicer works with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar

from control_plane.api.interceptors import current_caller
from control_plane.api.reception import Reception
from control_plane.api.views import Views
from control_plane.api.watching import Watching
from control_plane.artifacts.intake import Intake
from control_plane.auth.authenticate import Authenticator
from control_plane.auth.credentials import CredentialPress
from control_plane.auth.visibility import (
    is_whole_id,
    own_run,
    own_schedule,
    own_task,
    own_template,
    visible_project,
    visible_run,
    visible_schedule,
    visible_task,
    visible_template,
)
from control_plane.config import Settings
from control_plane.dispatch.sessions import Sessions
from control_plane.dispatch.sightings import Sightings
from control_plane.domain.copies import replace
from control_plane.domain.ids import RunId
from control_plane.domain.principal import Caller
from control_plane.domain.project import Project
from control_plane.domain.run import Run
from control_plane.domain.schedule import Schedule
from control_plane.domain.task import Task
from control_plane.domain.template import Template
from control_plane.lifecycle import audit
from control_plane.lifecycle.audit_chain import Chain
from control_plane.lifecycle.denials import Denials
from control_plane.lifecycle.house import House
from control_plane.logs.tail import Tail
from control_plane.storage.database import Connection

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The rooms below, put together for the doors."""

    house: House
    settings: Settings
    sessions: Sessions
    sightings: Sightings
    reception: Reception
    views: Views
    watching: Watching
    authenticator: Authenticator
    press: CredentialPress
    tail: Tail
    intake: Intake
    chain: Chain
    denials: Denials
    # What removes now what is kept no longer.
    collectors: tuple[Callable[[], Awaitable[object]], ...] = ()
    version: str
    instance_id: str
    started_at: datetime

    def caller(self, request_id: str = "") -> Caller:
        """Who calls, with the request id that the request carries."""
        return replace(current_caller(), request_id=request_id)

    async def read(self, body: Callable[[Connection], T]) -> T:
        """Run a query. What it finds is what the call is about."""
        found = await self.house.database.read(body)
        audit.touch(found)
        return found

    async def project(self, id_or_name: str) -> Project:
        """A project that the caller may use. Raises NotFound, also for a project of others."""
        caller, known = current_caller(), self.house.projects
        project = known.get(id_or_name)
        if project is not None and caller.principal.may_use(project.id):
            audit.touch(project)
            return project
        begun = known.begin()
        project = await self.read(partial(visible_project, caller=caller, id_or_name=id_or_name))
        known.keep(id_or_name, project, begun)
        return project

    async def task(self, project: str, text: str, *, show_deleted: bool = False) -> Task:
        """A task that the caller may see and run. Raises NotFound."""
        query = partial(visible_task, caller=current_caller(), project=project, text=text, show_deleted=show_deleted)
        return await self.read(query)

    async def own_task(self, project: str, text: str, *, deleted: bool = False) -> Task:
        """A task that the caller may change. Raises NotFound."""
        return await self.read(partial(own_task, caller=current_caller(), project=project, text=text, deleted=deleted))

    async def template(self, project: str, text: str, *, own: bool = False) -> Template:
        """A template that the caller may use, or change; its newest version. Raises NotFound."""
        find = own_template if own else visible_template
        return await self.read(partial(find, caller=current_caller(), project=project, text=text))

    async def schedule(self, project: str, text: str, *, own: bool = False) -> Schedule:
        """A schedule that the caller may see, or change. Raises NotFound."""
        find = own_schedule if own else visible_schedule
        return await self.read(partial(find, caller=current_caller(), project=project, text=text))

    async def run(self, project: str, text: str, *, own: bool = False) -> Run:
        """A run that the caller may see, or delete. Raises NotFound."""
        find = own_run if own else visible_run
        return await self.read(partial(find, caller=current_caller(), project=project, text=text))

    async def finding_run(self, project: str, text: str) -> RunId | Callable[[Connection], Run]:
        """Finds a run that the caller may see, in a transaction of somebody else's. Raises NotFound, perhaps there.

        What is not a whole id is looked for here: whoever has a million runs elsewhere makes "@last" of an empty
        project a long search, and all who write would wait for it.
        """
        if not is_whole_id(text):
            return (await self.run(project, text)).id
        return partial(visible_run, caller=current_caller(), project=project, text=text)
