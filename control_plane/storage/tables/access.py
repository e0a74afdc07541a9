"""Who may do what: the server itself, projects, principals, tokens, runners."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    Table,
    Text,
)

from control_plane.storage.tables.columns import METADATA, flag_, id_, number_, text_, when_

SERVER: Final = Table(
    "server",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("instance_id", Text, nullable=False),
    # The high 16 bits of every lease epoch; a restore from backup raises it.
    number_("generation"),
    when_("created_at", nullable=False),
)

SETTINGS: Final = Table("settings", METADATA, id_("key"), text_("value"), when_("updated_at", nullable=False))

PROJECTS: Final = Table(
    "projects",
    METADATA,
    id_(),
    Column("name", Text, nullable=False, unique=True),
    text_("description"),
    text_("created_by"),
    when_("created_at", nullable=False),
    when_("updated_at", nullable=False),
    text_("etag"),
    # Absent: no limit.
    Column("concurrency", Text),
    Column("retention", Text, nullable=False, server_default="{}"),
)

PRINCIPALS: Final = Table(
    "principals",
    METADATA,
    id_(),
    text_("kind"),
    Column("name", Text, nullable=False, unique=True),
    flag_("admin"),
    text_("project_ids"),
    text_("created_by"),
    when_("created_at", nullable=False),
    when_("disabled_at"),
)

TOKENS: Final = Table(
    "tokens",
    METADATA,
    id_(),
    Column("principal_id", Text, ForeignKey("principals.id"), nullable=False, index=True),
    text_("note"),
    Column("secret_digest", Text, nullable=False, unique=True),
    text_("created_by"),
    when_("created_at", nullable=False),
    when_("expires_at"),
    when_("last_used_at"),
    when_("revoked_at"),
)

JOIN_TOKENS: Final = Table(
    "join_tokens",
    METADATA,
    id_(),
    Column("secret_digest", Text, nullable=False, unique=True),
    text_("pool"),
    text_("granted_labels"),
    text_("allowed_project_ids"),
    text_("created_by"),
    when_("created_at", nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    when_("used_at"),
    Column("used_by", Text),
)

RUNNERS: Final = Table(
    "runners",
    METADATA,
    id_(),
    Column("name", Text, nullable=False, unique=True),
    text_("pool"),
    text_("labels"),
    text_("granted_labels"),
    text_("allowed_project_ids"),
    number_("slots"),
    flag_("draining"),
    when_("revoked_at"),
    Column("public_key", LargeBinary, nullable=False),
    number_("credential_generation"),
    text_("agent_version"),
    text_("boot_id"),
    text_("state_directory_id"),
    text_("warnings"),
    text_("created_by"),
    when_("created_at", nullable=False),
    when_("last_seen_at"),
    number_("session_epoch"),
    flag_("connected"),
    when_("disconnected_since"),
)
