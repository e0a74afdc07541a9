"""The real fork server and its shims, which count what they sync; the agent that counts starts it."""

from __future__ import annotations

from runner_agent.shim import fork_server
from tests.shape.tally import count_syncs


def main() -> None:
    """The product's own main, counting."""
    count_syncs("host")
    fork_server.main()
