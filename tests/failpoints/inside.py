"""Points for tests that have no agent's process: in the fork servers that the test itself starts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runner_agent.execution import shim_link
from tests.failpoints.control import Failpoints
from tests.failpoints.runner import with_points


def arm_fork_servers(monkeypatch: pytest.MonkeyPatch, points: Failpoints) -> None:
    """Every fork server that this test starts has these points."""
    execute, environment = asyncio.create_subprocess_exec, shim_link._spawn_environment

    async def executed(*words: Any, **options: Any) -> Any:
        return await execute(*with_points(words), **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", executed)
    monkeypatch.setattr(shim_link, "_spawn_environment", lambda: {**environment(), **points.environment()})
