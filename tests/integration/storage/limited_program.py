"""Lets the kernel refuse the database's writes for a while (a file size limit), and prints what callers were told.

Run with a state directory as the only argument. A process of its own, because the limit is a process's.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path

from sqlalchemy import func, insert, select

from control_plane.clock import SystemClock
from control_plane.domain.errors import BanksmanError
from control_plane.storage.database import Connection, Database
from control_plane.storage.tables import SETTINGS


def put(name: str, size: int) -> object:
    def body(connection: Connection) -> str:
        connection.execute(insert(SETTINGS), {"key": name, "value": "x" * size, "updated_at": 0})
        return name

    return body


def count(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(SETTINGS)).scalar_one())


async def told(database: Database, name: str, size: int) -> str:
    try:
        return await database.write(put(name, size))  # type: ignore[arg-type]
    except BanksmanError as error:
        return str(error.code)


async def main(state_directory: Path) -> dict[str, object]:
    database = Database.open(state_directory, SystemClock())
    seen: dict[str, object] = {"before": await told(database, "a", 10)}
    limit_bytes = max(file.stat().st_size for file in state_directory.iterdir()) + 8_192
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    seen["refused"] = [await told(database, f"large {number}", 1_000_000) for number in range(3)]
    seen["read while refused"] = await database.read(count)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    seen["after"] = await asyncio.gather(*(told(database, f"b{number}", 100_000) for number in range(5)))
    seen["rows"] = await database.read(count)
    await database.tidy()
    checked = await database.read(lambda conn: conn.exec_driver_sql("PRAGMA integrity_check").scalar_one())
    seen["integrity"] = checked
    await database.close()
    return seen


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
