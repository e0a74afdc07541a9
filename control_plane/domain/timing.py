"""Numbers of the session protocol and of the server's clocks. Durations are seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What the rules read. The defaults are the product's; smaller loss margins are for tests only."""

    heartbeat_shortest_s: float = 5.0
    heartbeat_sessions_per_s: float = 500.0
    lease_periods: int = 3
    offer_s: float = 10.0
    stop_resend_s: float = 5.0
    loss_margin_s: float = 30.0
    loss_margin_ratio: float = 0.002
    # The server's own tick came so much too late: it was paused, its loss clocks start anew.
    pause_s: float = 5.0
    reservation_s: float = 60.0
    refusal_backoff_s: float = 5.0
    refusal_backoff_cap_s: float = 60.0
    request_id_kept_s: float = 86_400.0
    log_window_bytes: int = 4 << 20
    max_chunk_bytes: int = 256 << 10
    protocol_min: int = 1
    protocol_max: int = 1

    def heartbeat_s(self, sessions: int) -> float:
        """The period told to runners: long enough that all of them together stay below the rate."""
        return max(self.heartbeat_shortest_s, sessions / self.heartbeat_sessions_per_s)

    def lease_s(self, sessions: int) -> float:
        return self.lease_periods * self.heartbeat_s(sessions)

    def loss_margin(self, lost_after_s: float) -> float:
        """Slack for two clocks that drift apart while a runner is silent."""
        return self.loss_margin_s + self.loss_margin_ratio * lost_after_s
