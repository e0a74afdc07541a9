"""The load under which watchers and readers are measured a second time."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.bench.registry import Round
from tests.bench.systems import Product

RUNS_PER_S = 300
LOG_BYTES_PER_S = 50_000_000


@dataclass(slots=True)
class Flowed:
    """What the host carried."""

    runs_per_s: float = 0.0
    log_mb_per_s: float = 0.0


def product(round: Round) -> Product:
    """The product that a Setup without a floor gives."""
    assert isinstance(round.system, Product)
    return round.system


@asynccontextmanager
async def flowing(
    round: Round, *, runs_per_s: int = RUNS_PER_S, log_bytes_per_s: int = LOG_BYTES_PER_S
) -> AsyncIterator[Flowed]:
    """Runs and logs flow in the block, as far as the host carries them; what flowed is known after it."""
    admin, flowed = product(round).house.admin, Flowed()
    argv = (sys.executable, "-m", "tests.bench.load", admin.target, str(runs_per_s), str(log_bytes_per_s))
    pipe = asyncio.subprocess.PIPE
    load = await asyncio.create_subprocess_exec(
        *argv, stdin=pipe, stdout=pipe, env={**os.environ, "BANKSMAN_TOKEN": admin.token}
    )
    assert load.stdin is not None
    assert load.stdout is not None
    try:
        assert await load.stdout.readline() == b"flowing\n", "the load does not flow"
        await asyncio.sleep(round.pick(full=2.0, quick=1.0, tiny=0.2))  # until it flows evenly
        yield flowed
        load.stdin.close()
        said = json.loads(await load.stdout.readline())
        await load.wait()
    finally:
        if load.returncode is None:
            load.kill()
            await load.wait()
    flowed.runs_per_s, flowed.log_mb_per_s = said["runs_per_s"], said["log_bytes_per_s"] / 1e6
