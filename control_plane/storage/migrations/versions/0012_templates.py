"""Templates with their versions; tasks and runs say which one they were made of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "templates",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        *_definition("templates"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_templates")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_templates_project_id_name")),
    )
    op.create_table(
        "template_versions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        *_definition("template_versions"),
        sa.ForeignKeyConstraint(["id"], ["templates.id"], name=op.f("fk_template_versions_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", "version", name=op.f("pk_template_versions")),
    )
    op.create_table(
        "template_marks",
        sa.Column("template_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["template_id"], ["templates.id"], name=op.f("fk_template_marks_template_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("template_id", "key", "value", name=op.f("pk_template_marks")),
    )
    for table in ("templates", "template_versions"):
        op.create_index(f"ix_{table}_spec_sha256", table, ["spec_sha256"], unique=False)
    for table in ("tasks", "runs"):
        op.add_column(table, sa.Column("template_id", sa.Text(), nullable=True))
        op.add_column(table, sa.Column("template_name", sa.Text(), nullable=False, server_default=""))
        op.add_column(table, sa.Column("template_version", sa.BigInteger(), nullable=False, server_default="0"))


def _definition(table: str) -> list[sa.schema.SchemaItem]:
    texts = (
        *("name", "description", "parameters", "spec_sha256", "labels", "tags", "variables", "unknown_variables"),
        *("allowed_overrides", "report", "notifications", "owner", "created_by", "updated_by", "etag"),
    )
    return [
        sa.Column("project_id", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in texts),
        sa.Column("allow_shell_substitution", sa.Boolean(), nullable=False),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f(f"fk_{table}_project_id")),
        sa.ForeignKeyConstraint(["spec_sha256"], ["specs.sha256"], name=op.f(f"fk_{table}_spec_sha256")),
    ]
