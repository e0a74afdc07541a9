"""Where notifications may go, as the operator has set it."""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.domain.addresses import networks, ports
from control_plane.domain.hooks import HookRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules(HookRules):
    """By default only https to public addresses, and channels whose hosts are fixed."""

    # Schemes of other channels' URLs.
    channels: frozenset[str] = frozenset()
    # Everything of one attempt together.
    timeout_s: float = 10.0
    # Until the second attempt; later waits are multiples of it.
    first_wait_s: float = 5.0

    @classmethod
    def of(cls, *, http: bool, ports_text: str, networks_text: str, channels_text: str, first_wait_s: float) -> Rules:
        """From the settings' texts. Raises ValueError."""
        return cls(
            http=http,
            ports=ports(ports_text),
            networks=networks(networks_text),
            channels=frozenset(part.strip().lower() for part in channels_text.split(",") if part.strip()),
            first_wait_s=first_wait_s,
        )
