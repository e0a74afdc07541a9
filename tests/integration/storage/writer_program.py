"""Writes for ever and prints each number once its write was answered; it is meant to be killed.

Run with a state directory as the only argument.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from sqlalchemy import insert

from control_plane.clock import SystemClock
from control_plane.storage.database import Connection, Database
from control_plane.storage.tables import SETTINGS

WRITERS = 20


async def write_for_ever(database: Database, numbers: list[int]) -> None:
    while True:
        number = numbers[0] = numbers[0] + 1

        def body(connection: Connection, number: int = number) -> None:
            rows = [{"key": f"{number}.{part}", "value": "x" * 200, "updated_at": number} for part in "ab"]
            connection.execute(insert(SETTINGS), rows)

        await database.write(body)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


async def main(state_directory: Path) -> None:
    database = Database.open(state_directory, SystemClock())
    numbers = [0]
    async with asyncio.TaskGroup() as group:
        for _ in range(WRITERS):
            group.create_task(write_for_ever(database, numbers))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
