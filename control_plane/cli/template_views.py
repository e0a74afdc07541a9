"""What the tables show of a template."""

from __future__ import annotations

from typing import TYPE_CHECKING

from control_plane.cli.manifest_writer import value_text
from control_plane.cli.output import Column, View, when
from control_plane.cli.views import command_of, env_of, pairs
from control_plane.cli.words import enum_word

if TYPE_CHECKING:
    from control_plane.cli.contract import template_pb2


def _parameters(template: template_pb2.Template) -> str:
    """NAME=default (integer, required, one of a|b)."""
    parts = []
    for each in template.parameters:
        text = f"{each.name}={value_text(each.default_value)}" if each.HasField("default_value") else each.name
        notes = [] if enum_word(each, "type") in ("STRING", "") else [enum_word(each, "type").lower()]
        notes += [word for word, there in (("required", each.required), ("sensitive", each.sensitive)) if there]
        if each.allowed_values:
            notes.append("one of " + "|".join(value_text(value) for value in each.allowed_values))
        parts.append(f"{text} ({', '.join(notes)})" if notes else text)
    return ", ".join(parts)


TEMPLATE = View(
    columns=(
        Column("NAME", lambda template: template.name),
        Column("VERSION", lambda template: str(template.version)),
        Column("PARAMETERS", lambda template: ",".join(each.name for each in template.parameters)),
        Column("TAGS", lambda template: ",".join(template.tags)),
        Column("UPDATED", lambda template: when(template, "updated_at")),
        Column("DESCRIPTION", lambda template: template.description),
    ),
    lines=(
        Column("name", lambda template: template.name),
        Column("id", lambda template: template.id),
        Column("version", lambda template: str(template.version)),
        Column("description", lambda template: template.description),
        Column("parameters", _parameters),
        Column("command", lambda template: command_of(template.spec)),
        Column("env", lambda template: env_of(template.spec)),
        Column("variables", lambda template: ", ".join(each.name for each in template.variables)),
        Column("labels", lambda template: pairs(template.labels)),
        Column("tags", lambda template: ",".join(template.tags)),
        Column("owner", lambda template: template.owner),
        Column("public", lambda template: "yes" if template.is_public else "no"),
        Column("created by", lambda template: template.created_by),
        Column("created", lambda template: when(template, "created_at")),
        Column("updated", lambda template: when(template, "updated_at")),
        Column("etag", lambda template: template.etag),
    ),
    name=lambda template: str(template.name),
)
