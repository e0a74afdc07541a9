"""The reconciler's own alarm: what goes wrong when it rings ends the agent, and is told."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from runner_agent.domain.events import Forgotten
from runner_agent.domain.ids import AttemptKey, RunId
from runner_agent.domain.state import Identity, initial_state
from runner_agent.execution.attempts import Attempts
from runner_agent.execution.reconciler import Reconciler
from runner_agent.outbox import Outbox

LATE_NS = 3_600 * 10**9
PATIENCE_S = 30


class HandClock:
    """Stands where it was set."""

    now_ns = 0

    def boottime_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns


async def test_a_state_directory_that_is_gone_is_not_lived_with_in_silence() -> None:
    gone: list[OSError] = []

    def measure() -> tuple[float, int]:
        for error in gone:
            raise error
        return 0.0, 1 << 40

    clock = HandClock()
    identity = Identity(agent_version="1", slots=1, boot_id="boot", state_directory_id="id")
    reconciler = Reconciler(state=initial_state(identity, []), clock=clock, measure=measure)
    running = asyncio.ensure_future(reconciler.run(cast(Attempts, None)))
    await reconciler.session_opened(Outbox(clock.boottime_ns))
    await asyncio.sleep(0)
    gone.append(OSError(5, "input/output error"))
    clock.now_ns = LATE_NS
    reconciler.post(Forgotten(key=AttemptKey(run_id=RunId("any"), lease_epoch=1)))  # it looks at the clock
    with pytest.raises(OSError, match="input/output"):
        async with asyncio.timeout(PATIENCE_S):
            await running
