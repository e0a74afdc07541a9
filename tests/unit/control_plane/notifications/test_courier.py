"""The courier's loop: what fails unexpectedly costs its own turn, never another's, and never the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from control_plane.domain.notification import Delivery, DeliveryState, Outcome
from control_plane.domain.task import NotificationEvent, NotificationSettings
from control_plane.lifecycle import notifications
from control_plane.notifications import courier
from control_plane.notifications.rules import Rules
from control_plane.notifications.senders import Senders
from control_plane.storage import reads
from tests.fakes.world import World
from tests.waiting import wait_for_async

GOOD, BAD = "https://hooks.example/good", "https://hooks.example/bad"


class Hooks:
    """Sends webhooks to nowhere; those to BAD raise what no sender should."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, url: str, payload: bytes, headers: Mapping[str, str]) -> Outcome:
        self.sent.append(url)
        if url == BAD:
            raise LookupError("a mistake")
        return Outcome(ok=True, status=200)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path / "state")
    await made.settle_in()
    yield made
    await made.house.database.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "STORE_AGAIN_S", 0.01)


async def told(world: World, *urls: str) -> None:
    """A run whose creation is told to these addresses."""
    events = (NotificationEvent.CREATED,)
    hooks = tuple(NotificationSettings(events=events, webhook_url=url) for url in urls)
    await world.run_task(await world.task(notifications=hooks))


@asynccontextmanager
async def courier_of(world: World, hooks: Hooks) -> AsyncIterator[None]:
    senders = Senders(Rules(), "banksman/0")
    senders.__dict__["webhooks"] = hooks
    async with asyncio.TaskGroup() as group:
        going = group.create_task(courier.Courier(world.house, senders).run(), name="courier")
        try:
            yield
        finally:
            going.cancel()


async def deliveries(world: World) -> dict[str, Delivery]:
    request = reads.PageRequest(page_size=100)
    page = await world.house.database.read(
        lambda conn: reads.list_deliveries(
            conn, project_id=world.project_id, request=request, wanted=reads.DeliveryFilter()
        )
    )
    return {each.webhook_url: each for each in page.items}


async def delivered(world: World, url: str) -> None:
    async def body() -> bool:
        return (await deliveries(world))[url].state is DeliveryState.DELIVERED

    await wait_for_async(body, what=f"{url} is told")


async def test_one_that_cannot_be_sent_is_an_attempt_like_others_and_the_rest_go_on(world: World) -> None:
    await told(world, BAD, GOOD)
    async with courier_of(world, Hooks()):
        await delivered(world, GOOD)

        async def kept() -> Delivery | None:
            bad = (await deliveries(world))[BAD]
            return bad if bad.attempts else None

        bad = await wait_for_async(kept, what="the attempt is kept")
    assert (bad.attempts, bad.state, bad.error) == (1, DeliveryState.PENDING, "an internal error (LookupError)")
    assert bad.next_attempt_at is not None
    assert bad.next_attempt_at > world.clock.now()


async def test_a_look_that_fails_is_not_the_last_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real, looks = notifications.due, 0

    async def failing(*arguments: object, **words: object) -> tuple[Delivery, ...]:
        nonlocal looks
        looks += 1
        if looks <= 2:
            raise LookupError("a mistake")
        return await real(*arguments, **words)  # type: ignore[arg-type]

    monkeypatch.setattr(notifications, "due", failing)
    await told(world, GOOD)
    async with courier_of(world, Hooks()):
        await delivered(world, GOOD)
    assert looks > 2


async def test_an_end_that_cannot_be_stored_is_not_sent_again_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = notifications.attempted, 0

    async def failing(*arguments: object) -> Delivery | None:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise LookupError("a mistake")
        return await real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(notifications, "attempted", failing)
    await told(world, GOOD)
    hooks = Hooks()
    async with courier_of(world, hooks):
        await delivered(world, GOOD)
    assert (hooks.sent, tries) == ([GOOD], 3)
