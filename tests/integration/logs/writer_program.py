"""A program that writes a log as fast as it can and says after each sync how far it is durable; a test kills it.

python -m tests.integration.logs.writer_program <root> <seed>
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from control_plane.domain.ids import AttemptKey, RunId
from control_plane.domain.log import LogKind, LogRecord
from control_plane.logs.files import FileLogStore

KEYS = [AttemptKey(run_id=RunId(f"0190b3a0-run-{number}"), lease_epoch=1) for number in range(3)]
SEGMENT_BYTES = 256 << 10
AT = datetime(2026, 1, 1, tzinfo=UTC)


def records(seed: int) -> Iterator[LogRecord]:
    """The same endless records for the same seed; now and then a gap."""
    source = random.Random(seed)
    while True:
        if source.random() < 0.02:
            yield LogRecord(kind=LogKind.SYSTEM, at=AT, gap_bytes=source.randrange(1, 50_000))
        else:
            yield LogRecord(kind=LogKind.STDOUT, at=AT, data=source.randbytes(source.randrange(1, 9_000)))


def main(root: str, seed: int) -> None:
    store = FileLogStore(Path(root), segment_bytes=SEGMENT_BYTES)
    sources = {key: records(seed + number) for number, key in enumerate(KEYS)}
    ends = dict.fromkeys(KEYS, 0)
    sizes = random.Random(seed)
    while True:
        for key in KEYS:
            piece = [next(sources[key]) for _ in range(sizes.randrange(1, 12))]
            store.append(key, ends[key], piece)
            ends[key] += sum(record.length for record in piece)
        store.sync(KEYS)
        os.write(1, (" ".join(str(ends[key]) for key in KEYS) + "\n").encode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
