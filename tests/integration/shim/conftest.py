"""Fixtures with real processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.shim.host import Host, open_host


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    """A host that uses cgroups where it may."""
    async with open_host(tmp_path / "state") as host:
        yield host


@pytest.fixture(params=[True, False], ids=["cgroup", "subreaper"])
async def any_host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    """A host with cgroups where allowed, and one that must do without."""
    async with open_host(tmp_path / "state", use_cgroups=request.param) as host:
        yield host
