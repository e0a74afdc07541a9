"""Whatever the host does, every answered write is there and whole, and nothing needs help afterwards."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from control_plane.clock import SystemClock
from control_plane.storage.database import Connection, Database
from control_plane.storage.tables import SETTINGS
from tests.integration.storage import limited_program, writer_program


@pytest.mark.parametrize("answers", [1, 200, 1_000])
async def test_every_answered_write_survives_a_kill(tmp_path: Path, answers: int) -> None:
    answered = await asyncio.to_thread(_write_until_killed, tmp_path, answers)
    database = Database.open(tmp_path, SystemClock())
    try:
        keys = await database.read(_keys)
        assert {f"{number}.{part}" for number in answered for part in "ab"} <= keys
        # A verb is there as a whole or not at all.
        numbers = {key.partition(".")[0] for key in keys}
        assert keys == {f"{number}.{part}" for number in numbers for part in "ab"}
        assert await database.read(_integrity) == ["ok"]
    finally:
        await database.close()


def test_writes_that_the_kernel_refuses_are_told_and_heal_by_themselves(tmp_path: Path) -> None:
    program = [sys.executable, limited_program.__file__, str(tmp_path)]
    ended = subprocess.run(program, stdout=subprocess.PIPE, check=True, timeout=120)
    assert json.loads(ended.stdout) == {
        "before": "a",
        "refused": ["STORAGE_UNAVAILABLE"] * 3,
        "read while refused": 1,
        "after": [f"b{number}" for number in range(5)],
        "rows": 6,
        "integrity": "ok",
    }


def _write_until_killed(state_directory: Path, answers: int) -> list[int]:
    program = [sys.executable, writer_program.__file__, str(state_directory)]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        answered = [int(process.stdout.readline()) for _ in range(answers)]
        process.kill()
        # What was answered before the kill and not read yet counts too; the last line may be torn.
        rest = process.stdout.read().split(b"\n")[:-1]
    return answered + [int(line) for line in rest]


def _keys(connection: Connection) -> set[str]:
    return {row[0] for row in connection.execute(select(SETTINGS.c.key))}


def _integrity(connection: Connection) -> list[str]:
    assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    return [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check")]
