"""Brings a database to this version's tables, and refuses one that a newer version has changed."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from control_plane.storage.sqlite import CannotOpen

SCRIPTS = "control_plane.storage:migrations"


class DatabaseTooNew(CannotOpen):
    """A newer version of Banksman has changed the database."""


class DatabaseUnreadable(CannotOpen):
    """The file is damaged, or no database at all."""


def migrate(engine: Engine) -> None:
    """Runs the migrations that are missing, all in one transaction. Raises DatabaseTooNew."""
    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    with engine.begin() as connection:
        current = current_revisions(connection)
        if strange := sorted(current - known):
            raise DatabaseTooNew(
                f"the database is at revision {', '.join(strange)}, which this version of Banksman does not know; "
                "start the newer version again, or restore a backup from before the upgrade"
            )
        if current == set(scripts.get_heads()):
            return
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def current_revisions(connection: Connection) -> set[str]:
    """The revisions that the database says it is at; empty for a new one."""
    return set(MigrationContext.configure(connection).get_current_heads())
