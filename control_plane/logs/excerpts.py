"""The ends of a stored log, for a report. Blocks: call it in a thread."""

from __future__ import annotations

from control_plane.domain.ids import AttemptKey
from control_plane.domain.log import LogKind
from control_plane.domain.report import LogExcerpt
from control_plane.logs.store import LogMissing, LogStore


def excerpt(store: LogStore, key: AttemptKey, head_bytes: int, tail_bytes: int) -> LogExcerpt:
    """Head and tail, or the whole log if it is no longer than both. What was dropped on the host is counted too."""
    try:
        end = store.end(key)
        if end <= head_bytes + tail_bytes:
            return LogExcerpt(head=_bytes(store, key, 0, end))
        left_out = end - head_bytes - tail_bytes
        head = _bytes(store, key, 0, head_bytes)
        return LogExcerpt(head=head, tail=_bytes(store, key, end - tail_bytes, end), left_out_bytes=left_out)
    except LogMissing:
        return LogExcerpt(missing="the log is no longer kept")
    except OSError as error:
        return LogExcerpt(missing=f"the log cannot be read: {error.strerror}")


def _bytes(store: LogStore, key: AttemptKey, offset: int, end: int) -> bytes:
    """Bytes [offset, end) of what was printed; a gap is a line that says so."""
    parts: list[bytes] = []
    while offset < end:
        found = store.read(key, offset, end - offset)
        if not found.records or found.next_offset <= offset:
            break
        at = offset
        for record in found.records:
            if record.kind is not LogKind.EVENT:
                gap = f"\n[{record.gap_bytes} bytes are missing]\n".encode() if record.gap_bytes else b""
                parts.append(gap or record.data[: max(0, end - at)])
                at += record.length
        offset = found.next_offset
    return b"".join(parts)
