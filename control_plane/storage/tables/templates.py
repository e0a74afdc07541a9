"""Templates: each as it is now, and every version of it that is kept."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Column, ForeignKey, Table, Text, UniqueConstraint

from control_plane.storage.tables.columns import METADATA, flag_, id_, number_, project_, text_, when_


def _definition() -> list[Column[Any]]:
    return [
        project_(),
        text_("name"),
        text_("description"),
        text_("parameters"),
        Column("spec_sha256", Text, ForeignKey("specs.sha256"), nullable=False, index=True),
        text_("labels"),
        text_("tags"),
        text_("variables"),
        text_("unknown_variables"),
        flag_("allow_shell_substitution"),
        text_("allowed_overrides"),
        text_("report"),
        text_("notifications"),
        text_("owner"),
        flag_("is_public"),
        text_("created_by"),
        when_("created_at", nullable=False),
        text_("updated_by"),
        when_("updated_at", nullable=False),
        text_("etag"),
    ]


TEMPLATES: Final = Table(
    "templates", METADATA, id_(), number_("version"), *_definition(), UniqueConstraint("project_id", "name")
)

# The newest one too.
TEMPLATE_VERSIONS: Final = Table(
    "template_versions",
    METADATA,
    Column("id", Text, ForeignKey("templates.id", ondelete="CASCADE"), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    *_definition(),
)

# As TASK_MARKS: tags under an empty key.
TEMPLATE_MARKS: Final = Table(
    "template_marks",
    METADATA,
    Column("template_id", Text, ForeignKey("templates.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, primary_key=True),
)
