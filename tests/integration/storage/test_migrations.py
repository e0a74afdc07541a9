"""Migrations: from nothing and from every older revision to the tables of this version, never from a newer one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from control_plane.storage import schema, sqlite
from control_plane.storage.database import Database
from control_plane.storage.schema import DatabaseTooNew, DatabaseUnreadable
from control_plane.storage.tables import METADATA
from tests.fakes.clock import FakeClock


def config() -> Config:
    made = Config()
    made.set_main_option("script_location", schema.SCRIPTS)
    made.set_main_option("path_separator", "os")
    return made


def revisions() -> list[str]:
    """Oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()][::-1]


def test_revisions_follow_one_another() -> None:
    assert revisions() == sorted(revisions())
    assert len(ScriptDirectory.from_config(config()).get_heads()) == 1


@pytest.mark.parametrize("start", ["", *revisions()])
def test_every_older_database_is_brought_to_the_tables(tmp_path: Path, start: str) -> None:
    engines = sqlite.open_engines(tmp_path / "banksman.db")
    if start:
        with engines.writer.begin() as connection:
            older = config()
            older.attributes["connection"] = connection
            command.upgrade(older, start)
    schema.migrate(engines.writer)
    with engines.writer.begin() as connection:
        assert schema.current_revisions(connection) == {revisions()[-1]}
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    engines.dispose()


async def test_opening_twice_changes_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        await Database.open(tmp_path, FakeClock()).close()
    with sqlite3.connect(tmp_path / sqlite.DATABASE_NAME) as raw:
        assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [(revisions()[-1],)]
    raw.close()


async def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    await Database.open(tmp_path, FakeClock()).close()
    raw = sqlite3.connect(tmp_path / sqlite.DATABASE_NAME)
    raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.commit()
    for _ in range(2):  # the state directory is given back after the refusal
        with pytest.raises(DatabaseTooNew, match="9999"):
            Database.open(tmp_path, FakeClock())
    assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
    raw.close()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / sqlite.DATABASE_NAME).write_bytes(b"certainly not SQLite" * 500)
    for _ in range(2):
        with pytest.raises(DatabaseUnreadable, match="not a database"):
            Database.open(tmp_path, FakeClock())
    (tmp_path / sqlite.DATABASE_NAME).unlink()
    await Database.open(tmp_path, FakeClock()).close()


async def test_durable_settings_are_in_force(tmp_path: Path) -> None:
    database = Database.open(tmp_path, FakeClock())
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}
    for name, value in wanted.items():
        pragma = f"PRAGMA {name}"
        assert await database.write(lambda conn, p=pragma: conn.exec_driver_sql(p).scalar()) == value
    assert await database.read(lambda conn: conn.exec_driver_sql("PRAGMA query_only").scalar()) == 1
    await database.close()
