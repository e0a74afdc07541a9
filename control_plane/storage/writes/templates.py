"""Writes of templates: every version is kept for a while."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert

from control_plane.domain import limits
from control_plane.domain.ids import TemplateId
from control_plane.domain.template import Template
from control_plane.storage.shapes import TEMPLATE, TEMPLATE_VERSION
from control_plane.storage.tables import TEMPLATE_MARKS, TEMPLATE_VERSIONS, TEMPLATES
from control_plane.storage.writes.changes import compare_and_set
from control_plane.storage.writes.marks import marks


def insert_template(connection: Connection, template: Template) -> None:
    connection.execute(insert(TEMPLATES), TEMPLATE.values(template))
    connection.execute(insert(TEMPLATE_VERSIONS), TEMPLATE_VERSION.values(template))
    _mark(connection, template)


def save_template(connection: Connection, old: Template, new: Template) -> bool:
    """Writes the new version while the old one is the newest, and drops the oldest beyond those that are kept."""
    guards = {"id": old.id, "version": old.version, "etag": old.etag}
    if not compare_and_set(connection, TEMPLATES, TEMPLATE.changes(old, new), guards):
        return False
    connection.execute(insert(TEMPLATE_VERSIONS), TEMPLATE_VERSION.values(new))
    too_old = TEMPLATE_VERSIONS.c.version <= new.version - limits.TEMPLATE_VERSIONS_KEPT
    connection.execute(delete(TEMPLATE_VERSIONS).where(TEMPLATE_VERSIONS.c.id == new.id, too_old))
    if (old.tags, old.labels) != (new.tags, new.labels):
        connection.execute(delete(TEMPLATE_MARKS).where(TEMPLATE_MARKS.c.template_id == new.id))
        _mark(connection, new)
    return True


def delete_template(connection: Connection, template_id: TemplateId) -> bool:
    """For good, with its versions."""
    return connection.execute(delete(TEMPLATES).where(TEMPLATES.c.id == template_id)).rowcount == 1


def _mark(connection: Connection, template: Template) -> None:
    known = marks(template.tags, template.labels)
    if known:
        rows = [{"template_id": template.id, "key": key, "value": value} for key, value in known]
        connection.execute(insert(TEMPLATE_MARKS), rows)
