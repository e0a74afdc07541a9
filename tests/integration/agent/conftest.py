"""A fake control plane and agents that are ended with the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.fakes.control_plane import FakeControlPlane
from tests.integration.agent.program import Agent

StartAgent = Callable[..., Awaitable[Agent]]


@pytest.fixture
async def plane() -> AsyncIterator[FakeControlPlane]:
    async with FakeControlPlane().serve() as plane:
        yield plane


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
async def start_agent(plane: FakeControlPlane, state_dir: Path, tmp_path: Path) -> AsyncIterator[StartAgent]:
    """Starts an enrolled agent and waits for its session."""
    started: list[Agent] = []
    token = tmp_path / "token"
    token.write_text("join-1\n")

    async def start(*flags: str, connected: bool = True, **environment: str) -> Agent:
        agent = Agent(state_dir, plane.url, "--join-token-file", str(token), "--name", "r-1", *flags)
        started.append(agent)
        await agent.start(**environment)
        if connected:
            sessions = plane.session_epoch
            try:
                await plane.until(lambda: plane.connected and plane.session_epoch > sessions, "a session")
            except AssertionError as error:
                raise AssertionError(f"{error}\n{agent.log}") from None
        return agent

    yield start
    for agent in started:
        await agent.end_everything()
