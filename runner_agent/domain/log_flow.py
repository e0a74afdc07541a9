"""How much log may be on its way: credit per session and per attempt, round-robin, rewinds. Pure; `now` is an argument.

Unacked bytes of a session never exceed max(64 KiB, bytes acked in the last second), 4 MiB, or the server's window: gRPC
takes about 4 MiB before a write blocks, and a heartbeat behind so much would come too late on a slow link.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from runner_agent.domain.ids import AttemptKey

FLOOR_BYTES = 64 << 10
CEILING_BYTES = 4 << 20
LARGEST_CHUNK_BYTES = 256 << 10
CHUNKS_ON_THE_WAY = 4
SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTurn:
    """Leave to send up to `limit_bytes` of this log from `offset` on."""

    key: AttemptKey
    offset: int
    limit_bytes: int


@dataclass(slots=True, kw_only=True)
class _Lane:
    acked: int
    sent: int
    spooled: int
    window_bytes: int | None = None
    stuck_at: int | None = None

    @property
    def on_the_way(self) -> int:
        return max(0, self.sent - self.acked)


class LogFlow:
    """The logs of one session. Offsets count gaps like bytes."""

    def __init__(self) -> None:
        self._lanes: dict[AttemptKey, _Lane] = {}
        self._order: deque[AttemptKey] = deque()
        self._acked: deque[tuple[int, int]] = deque()
        self._acked_bytes = 0
        self._on_the_way = 0
        self.window_bytes = CEILING_BYTES
        self.max_chunk_bytes = FLOOR_BYTES

    def set_limits(self, *, window_bytes: int, max_chunk_bytes: int) -> None:
        """What the server allows. A missing or absurd value leaves ours."""
        self.window_bytes = min(CEILING_BYTES, window_bytes) if window_bytes > 0 else CEILING_BYTES
        self.max_chunk_bytes = min(LARGEST_CHUNK_BYTES, max_chunk_bytes) if max_chunk_bytes > 0 else FLOOR_BYTES

    def open(self, key: AttemptKey, *, offset: int, spooled: int) -> None:
        """Send this log from `offset` on."""
        self.close(key)
        self._lanes[key] = _Lane(acked=offset, sent=offset, spooled=spooled)
        self._order.append(key)

    def close(self, key: AttemptKey) -> None:
        """Send no more of it."""
        lane = self._lanes.pop(key, None)
        if lane is not None:
            self._on_the_way -= lane.on_the_way
            self._order.remove(key)

    def grew(self, key: AttemptKey, spooled: int) -> None:
        """Bytes below `spooled` can be read."""
        lane = self._lanes.get(key)
        if lane is not None:
            lane.spooled = max(lane.spooled, spooled)

    def sent(self, key: AttemptKey, *, offset: int, end_offset: int) -> None:
        """A chunk was handed to the stream. One that was read before a rewind does not count."""
        lane = self._lanes.get(key)
        if lane is not None and lane.sent == offset:
            self._move(lane, acked=lane.acked, sent=max(offset, end_offset))

    def acked(self, key: AttemptKey, committed: int, now_ns: int, window_bytes: int | None = None) -> None:
        """The server has everything below `committed`."""
        lane = self._lanes.get(key)
        if lane is None:
            return
        if window_bytes is not None:
            lane.window_bytes = window_bytes
        if committed > lane.acked:
            self._acked.append((now_ns, committed - lane.acked))
            self._acked_bytes += committed - lane.acked
            lane.stuck_at = None
            self._move(lane, acked=committed, sent=max(lane.sent, committed))

    def heard(self, key: AttemptKey, committed: int, now_ns: int) -> None:
        """A heartbeat's verdict named the committed offset. No progress between two of them: send again from there."""
        self.acked(key, committed, now_ns)
        lane = self._lanes.get(key)
        if lane is None:
            return
        if lane.on_the_way == 0:
            lane.stuck_at = None
        elif lane.stuck_at == lane.acked:
            lane.stuck_at = None
            self._move(lane, acked=lane.acked, sent=lane.acked)
        else:
            lane.stuck_at = lane.acked

    def rewind(self, key: AttemptKey, expected: int) -> None:
        """The server wants it from `expected` on, whatever it acked before."""
        lane = self._lanes.get(key)
        if lane is not None:
            self._move(lane, acked=expected, sent=expected)

    def skip(self, key: AttemptKey) -> None:
        """Nothing could be read where the lane stands: wait until it grows."""
        lane = self._lanes.get(key)
        if lane is not None:
            lane.spooled = min(lane.spooled, lane.sent)

    def limit_bytes(self, now_ns: int) -> int:
        """How many bytes may be on their way in all."""
        while self._acked and self._acked[0][0] <= now_ns - SECOND_NS:
            self._acked_bytes -= self._acked.popleft()[1]
        return min(max(FLOOR_BYTES, self._acked_bytes), CEILING_BYTES, self.window_bytes)

    def on_the_way(self) -> int:
        """How many bytes are sent and not acked."""
        return self._on_the_way

    def next_turn(self, now_ns: int) -> LogTurn | None:
        """The next attempt's turn, round-robin; None while nothing is there or nothing more may be on its way."""
        allowed = self.limit_bytes(now_ns)
        room = allowed - self._on_the_way
        if room <= 0:
            return None
        # A message costs as much as its bytes: large ones, but several on their way, so that acks overlap with sending.
        largest = min(self.max_chunk_bytes, max(FLOOR_BYTES, allowed // CHUNKS_ON_THE_WAY))
        for _ in range(len(self._order)):
            key = self._order[0]
            self._order.rotate(-1)
            lane = self._lanes[key]
            waiting = lane.spooled - lane.sent
            limit = min(waiting, largest, self._lane_room(lane))
            # Small pieces only when that is all there is, or nothing is on its way whose ack would make room.
            if limit > 0 and (limit <= room or self._on_the_way == 0):
                return LogTurn(key=key, offset=lane.sent, limit_bytes=min(limit, room))
        return None

    def _lane_room(self, lane: _Lane) -> int:
        if lane.window_bytes is None:
            return self.max_chunk_bytes
        return max(lane.window_bytes, 1) - lane.on_the_way

    def _move(self, lane: _Lane, *, acked: int, sent: int) -> None:
        self._on_the_way -= lane.on_the_way
        lane.acked, lane.sent = acked, sent
        self._on_the_way += lane.on_the_way
