"""What a restart finds: the segments of a log, its digest taken up again, and its torn end cut off.

Bytes that were acknowledged are whole, because they were synced. Behind them a crash may leave anything, so the last
part of a log that still grows is read again, cut at the first record that is not whole, and synced before anybody
sees it: if the disk changed acknowledged bytes there, the runner is asked for them again. A sealed log is never cut:
what has changed in it is passed over and reads as a gap.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from control_plane.logs import blocks
from control_plane.logs.digest import LogDigest
from control_plane.logs.frames import BadFrame, Frame
from control_plane.logs.segments import HEADER_BYTES, BadHeader, Segment, read_header, scan, sync_directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A log as it is on disk: where writing goes on. `read_bytes` says how much had to be read again."""

    segments: tuple[Segment, ...]
    end: int
    newlines: int
    position: int
    digest: LogDigest
    checkpoints: int
    read_bytes: int
    sealed: bool


def segment_path(base: Path, index: int) -> Path:
    """The file of a segment; `base` is the log's path without an ending."""
    return base.with_name(f"{base.name}.{index:06d}.seg")


def blocks_path(base: Path) -> Path:
    """The file of a log's digest pieces."""
    return base.with_name(f"{base.name}.blocks")


def recover(base: Path) -> Recovered:
    """Find, repair and sync the segments of a log. Raises OSError."""
    segments = _find(base)
    sealed_end = segments[-1].sealed_end if segments else None
    state = _Scan(base, segments, sealed_end)
    for segment in segments:
        if segment.index >= state.segment and not state.read(segment) and sealed_end is None:
            break
    if sealed_end is not None:
        state.digest.gap(sealed_end - state.digest.offset)
    elif state.kept:
        state.cut()
    return Recovered(
        segments=tuple(state.kept),
        end=state.digest.offset,
        newlines=state.newlines,
        position=state.position,
        digest=state.digest,
        checkpoints=state.checkpoints,
        read_bytes=state.read_bytes,
        sealed=sealed_end is not None,
    )


def _find(base: Path) -> list[Segment]:
    """The headers in order. One that cannot be read ends the list when it is the last file, else it is left out."""
    found: list[Segment] = []
    index = 1
    while True:
        path = segment_path(base, index)
        try:
            segment = read_header(path)
        except FileNotFoundError:
            return found
        except BadHeader:
            if not segment_path(base, index + 1).exists():
                return found
        else:
            if segment.index == index:
                found.append(segment)
        index += 1


def _trusted(base: Path, segments: Sequence[Segment]) -> list[blocks.Checkpoint]:
    """The block entries whose records are there."""
    known = {segment.index: os.stat(segment_path(base, segment.index)).st_size for segment in segments}
    checkpoints = blocks.load(blocks_path(base))
    while checkpoints and checkpoints[-1].position > known.get(checkpoints[-1].segment, 0):
        checkpoints.pop()
    return checkpoints


class _Scan:
    """Reads on from the last block entry."""

    def __init__(self, base: Path, segments: Sequence[Segment], sealed_end: int | None) -> None:
        self._base = base
        self._all = segments
        self._sealed_end = sealed_end
        checkpoints = _trusted(base, segments)
        self.digest = LogDigest()
        for checkpoint in checkpoints:
            self.digest.resume(checkpoint.entry)
        last = checkpoints[-1] if checkpoints else None
        self.checkpoints = len(checkpoints)
        self.segment = last.segment if last else 1
        self.newlines = last.newlines if last else 0
        self.kept = [segment for segment in segments if segment.index < self.segment]
        self.position = last.position if last else HEADER_BYTES
        self.read_bytes = 0

    def read(self, segment: Segment) -> bool:
        """Take in the records of one segment; False when the log, or what can be read of it, ends inside it."""
        if segment.index != self.segment:
            if not self._reach(segment.first_offset):
                return False
            self.position = HEADER_BYTES
        self.kept.append(segment)
        fd = os.open(segment_path(self._base, segment.index), os.O_RDONLY | os.O_CLOEXEC)
        try:
            for position, frame in scan(fd, self.position, hop=self._sealed_end is not None):
                if not self._take(frame):
                    return False
                self.position = position + frame.size
        except BadFrame:
            return False
        finally:
            os.close(fd)
        return True

    def _reach(self, offset: int) -> bool:
        """Whether the log goes on at `offset`; in a sealed log what lies before it is passed over as a gap."""
        behind = offset - self.digest.offset
        if behind > 0 and self._sealed_end is not None and offset <= self._sealed_end:
            self.digest.gap(behind)
            return True
        return behind == 0

    def _take(self, frame: Frame) -> bool:
        """Feed what lies behind the last block; False when the record does not belong here."""
        if frame.offset > self.digest.offset and not self._reach(frame.offset):
            return False
        self.read_bytes += frame.size
        self.newlines += frame.data.count(b"\n")
        known = self.digest.offset - frame.offset
        if frame.data:
            self.digest.data(frame.data[known:])
        else:
            self.digest.gap(frame.end - frame.offset - known)
        return True

    def cut(self) -> None:
        """Cut off what is not whole and make the rest durable."""
        last = self.kept[-1]
        for segment in self._all:
            path = segment_path(self._base, segment.index)
            if segment.index > last.index:
                path.unlink()
            elif segment.index >= self.segment:
                _sync(path, self.position if segment is last else None)
        sync_directory(self._base.parent)


def _sync(path: Path, size: int | None) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if size is not None and os.fstat(fd).st_size > size:
            os.ftruncate(fd, size)
        os.fdatasync(fd)
    finally:
        os.close(fd)
