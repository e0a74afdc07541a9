"""Callers that were turned away, as a few log lines: the first of each peer at once, the others counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from urllib.parse import unquote

from control_plane.telemetry import logger

log = logger("api")

WINDOW_S = 60.0
MOST_PEERS = 100
OTHERS = "others"


def host_of(peer: str) -> str:
    """gRPC's name of a peer without its port: a new connection is not a new peer."""
    kind, _, rest = peer.partition(":")
    return unquote(rest.rpartition(":")[0]) if kind in ("ipv4", "ipv6") else peer


class TurnedAway:
    """Counts per peer and minute. What was presented is never looked at here, so it cannot be told."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._began_s = monotonic_s()
        self._counts: dict[str, Counter[str]] = {}

    def note(self, peer: str, code: str) -> None:
        """One call was refused for want of access."""
        self.tell()
        host = host_of(peer)
        if host not in self._counts and len(self._counts) >= MOST_PEERS:
            host = OTHERS
        counts = self._counts.get(host)
        if counts is None:
            log.warning("turned away", code=code, peer=host)
            counts = self._counts[host] = Counter()
        else:
            counts[code] += 1

    def tell(self) -> None:
        """Say how often it happened again, once the minute is over."""
        now_s = self._monotonic_s()
        if now_s - self._began_s < WINDOW_S:
            return
        for host, counts in self._counts.items():
            if counts:
                log.warning("turned away again", peer=host, times=counts.total(), codes=", ".join(sorted(counts)))
        self._counts = {}
        self._began_s = now_s
