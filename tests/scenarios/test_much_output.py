"""Much output, and output of every kind, arrives byte for byte; what is over the limit costs the middle and no more."""

from __future__ import annotations

import hashlib
import pathlib

from banksman.v1 import log_pb2, run_pb2

from tests.scenarios.children import python
from tests.scenarios.house import House
from tests.scenarios.specs import spec

MEBIBYTE = 1 << 20
# argv: MiB. Lines of 1 KiB of which no two are alike.
LINES = """
import os, sys
def put(data):
    while data:
        data = data[os.write(1, data):]
for block in range(int(sys.argv[1]) * 4):
    put(b"".join(b"%012d" % (block * 256 + at) + b"z" * 1011 + b"\\n" for at in range(256)))
"""
# One line without end, then what terminals, parsers and JSON stumble over.
ODD = b"\x00\x00 nul \xff\xfe\xc3( \xed\xa0\x80 \x1b[2J\x1b]0;title\x07 \r\r\n\x85\xe2\x80\xa8\x0b\x0c" + b"\x00" * 5000
ONE_LINE = """
import os, sys
def put(data):
    while data:
        data = data[os.write(1, data):]
for _ in range(int(sys.argv[1])):
    put(b"a" * (1 << 20))
put(open(sys.argv[2], "rb").read())
"""


def lines(block: int) -> bytes:
    """A quarter of a MiB of LINES."""
    return b"".join(b"%012d" % (block * 256 + at) + b"z" * 1011 + b"\n" for at in range(256))


def log_digest(house: House, run: str) -> tuple[str, int, int]:
    """(SHA-256 of the bytes, their number, bytes in gaps) of a whole log, without keeping it."""
    found, size, gaps = hashlib.sha256(), 0, 0
    for answer in house.batches(run):
        for record in answer.batch.records:
            if record.kind != log_pb2.LOG_KIND_SYSTEM:
                found.update(record.data)
                size += len(record.data)
            gaps += record.gap_bytes
    return found.hexdigest(), size, gaps


def test_thirty_megabytes_arrive_exactly(shared: House) -> None:
    done = shared.execute(spec(python(LINES, "30")))
    wanted = hashlib.sha256()
    for block in range(120):
        wanted.update(lines(block))
    assert done.state == run_pb2.RUN_STATE_SUCCEEDED
    assert log_digest(shared, done.id) == (wanted.hexdigest(), 30 * MEBIBYTE, 0)
    assert shared.log_end(done.id).complete


def test_one_long_line_and_bytes_of_every_kind_arrive_exactly(shared: House, here: pathlib.Path) -> None:
    (here / "odd").write_bytes(ODD)
    done = shared.execute(spec(python(ONE_LINE, "4", here / "odd")))
    wanted = hashlib.sha256(b"a" * (4 * MEBIBYTE) + ODD).hexdigest()
    assert log_digest(shared, done.id) == (wanted, 4 * MEBIBYTE + len(ODD), 0)
    shown = shared.cli("run", "logs", done.id)
    assert shown.returncode == 0
    assert shown.stdout.endswith(ODD)


def test_what_is_over_the_limit_costs_the_middle_and_keeps_the_end(shared: House) -> None:
    limit = 4 * MEBIBYTE
    done = shared.execute(spec(python(LINES, "12"), log_limit_bytes=limit))
    assert done.state == run_pb2.RUN_STATE_SUCCEEDED
    whole = b"".join(lines(block) for block in range(48))
    offset, gaps, kept = 0, 0, 0
    for answer in shared.batches(done.id):
        for record in answer.batch.records:
            assert whole.startswith(record.data, offset)
            kept += len(record.data)
            gaps += record.gap_bytes
            offset += len(record.data) + record.gap_bytes
    assert offset == len(whole) == kept + gaps
    assert limit * 0.8 <= kept <= limit * 1.1
    assert shared.log(done.id).endswith(lines(47)), "the last words are those that are looked for"
    assert shared.log_end(done.id).complete
