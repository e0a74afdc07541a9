"""Reads of templates and their versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, and_, or_, select

from control_plane.domain.errors import ErrorCode, NotFound
from control_plane.domain.filters import EVERYTHING, Filter
from control_plane.domain.ids import PrincipalId, ProjectId, TemplateId
from control_plane.domain.pages import Page
from control_plane.domain.run import Run
from control_plane.domain.template import Template
from control_plane.storage.filters import LAST, TEMPLATE_LEAVES, condition
from control_plane.storage.paging import PageRequest, fetch_page
from control_plane.storage.shapes import TEMPLATE, TEMPLATE_VERSION
from control_plane.storage.tables import TEMPLATE_VERSIONS, TEMPLATES

_TEMPLATES: Final = select(*TEMPLATE.columns)


def template(connection: Connection, template_id: TemplateId) -> Template | None:
    """Its newest version."""
    row = connection.execute(_TEMPLATES.where(TEMPLATES.c.id == template_id)).first()
    return None if row is None else TEMPLATE.entity(row)


def find_template(connection: Connection, project_id: ProjectId, id_or_name: str) -> Template | None:
    """The newest version of one of the project's templates."""
    query = _TEMPLATES.where(
        TEMPLATES.c.project_id == project_id, or_(TEMPLATES.c.id == id_or_name, TEMPLATES.c.name == id_or_name)
    )
    row = connection.execute(query).first()
    return None if row is None else TEMPLATE.entity(row)


def template_version(connection: Connection, newest: Template, version: int) -> Template:
    """One version; 0 means the newest. Raises NotFound TEMPLATE_NOT_FOUND."""
    if version in (0, newest.version):
        return newest
    query = select(*TEMPLATE_VERSION.columns).where(
        TEMPLATE_VERSIONS.c.id == newest.id, TEMPLATE_VERSIONS.c.version == version
    )
    row = connection.execute(query).first()
    if row is None:
        text = f"There is no version {version} of template {newest.name!r}; the newest is {newest.version}."
        raise NotFound(ErrorCode.TEMPLATE_NOT_FOUND, text, hint=f"banksman template get {newest.name}")
    return TEMPLATE_VERSION.entity(row)


def template_of_run(connection: Connection, run: Run) -> Template | None:
    """The version that a run was made of directly, without a task; None if there was none, or it is gone."""
    if run.template_id is None or run.task_id is not None:
        return None
    is_it = and_(TEMPLATE_VERSIONS.c.id == run.template_id, TEMPLATE_VERSIONS.c.version == run.template_version)
    row = connection.execute(select(*TEMPLATE_VERSION.columns).where(is_it)).first()
    return None if row is None else TEMPLATE_VERSION.entity(row)


def no_template(id_or_name: str) -> NotFound:
    """The same for one that is not there and for one that the caller may not see."""
    text = f"There is no template {id_or_name!r}."
    return NotFound(ErrorCode.TEMPLATE_NOT_FOUND, text, hint="banksman template list")


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateFilter:
    """Which of a project's a list shows. `visible_to` None: all, else that principal's own and public ones."""

    name_prefix: str = ""
    matching: Filter = EVERYTHING
    visible_to: PrincipalId | None = None


def list_templates(
    connection: Connection, project_id: ProjectId, request: PageRequest, wanted: TemplateFilter
) -> Page[Template]:
    """By name, each in its newest version."""
    query = _TEMPLATES.where(TEMPLATES.c.project_id == project_id, condition(wanted.matching, TEMPLATE_LEAVES))
    if wanted.name_prefix:
        query = query.where(TEMPLATES.c.name >= wanted.name_prefix, TEMPLATES.c.name < wanted.name_prefix + LAST)
    if wanted.visible_to is not None:
        query = query.where(or_(TEMPLATES.c.is_public, TEMPLATES.c.owner == wanted.visible_to))
    return fetch_page(
        connection,
        query=query,
        key=TEMPLATES.c.name,
        key_of=lambda item: item.name,
        build=TEMPLATE.entity,
        request=request,
        scope=("templates", project_id, wanted.name_prefix, repr(wanted.matching)),
    )
