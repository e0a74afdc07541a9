"""The real server on a disk whose room a test decides, without root: `python cramped.py FILE serve …`.

While FILE exists the disk is full: the database may not grow by a page (SQLite's own limit, its own error), and the
file system says that nothing is free. The product is as it is; only what it finds below it differs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sqlalchemy import Connection, Engine, event

UNLIMITED_PAGES = 1 << 30


def cramp(full: Path) -> None:
    """From now on, in this process."""
    real = os.statvfs

    @event.listens_for(Engine, "begin")
    def _begun(connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert driver is not None
        # Never below what is in use: no page more.
        driver.execute(f"PRAGMA max_page_count={1 if full.exists() else UNLIMITED_PAGES}").close()

    def statvfs(path: os.PathLike[str] | str | int) -> os.statvfs_result:
        told = list(real(path))
        if full.exists():
            told[3] = told[4] = 0
        return os.statvfs_result(told)

    os.statvfs = statvfs  # type: ignore[assignment]


if __name__ == "__main__":
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    cramp(Path(sys.argv[1]))
    from control_plane.__main__ import main

    sys.exit(main(sys.argv[2:]))
