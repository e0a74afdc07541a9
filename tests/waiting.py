"""Wait for a condition that another process brings about; the one place in the tests that polls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PERIOD_S = 0.02


def wait_for(condition: Callable[[], T | bool | None], *, what: str, timeout_s: float = 30.0) -> T:
    """Return the condition's first true value; raise TimeoutError naming `what` after timeout_s."""
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value  # type: ignore[return-value]
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(PERIOD_S)


async def wait_for_async(
    condition: Callable[[], Awaitable[T | bool | None]], *, what: str, timeout_s: float = 30.0
) -> T:
    """As wait_for, for a condition that awaits."""
    end = time.monotonic() + timeout_s
    while True:
        value = await condition()
        if value:
            return value  # type: ignore[return-value]
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        await asyncio.sleep(PERIOD_S)
