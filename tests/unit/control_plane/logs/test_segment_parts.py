"""Parts of any size and number are written behind one another, whole."""

from __future__ import annotations

import os
import pathlib

import pytest

from control_plane.logs.segments import JOINED_BYTES, PARTS_AT_ONCE, write_parts


@pytest.mark.parametrize(
    "sizes",
    [
        [1, 2, 3],
        [28, 64 << 10] * 20,
        [JOINED_BYTES] * (PARTS_AT_ONCE + 1),
        [0, 0],
        [1 << 20],
    ],
)
def test_all_parts_are_there(tmp_path: pathlib.Path, sizes: list[int]) -> None:
    parts = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(fd, b"head", 0)
        write_parts(fd, parts, 4)
    finally:
        os.close(fd)
    assert (tmp_path / "file").read_bytes() == b"head" + b"".join(parts)
