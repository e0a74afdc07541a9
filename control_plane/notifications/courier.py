"""One loop that sends what is due: a few at once, fewer to one receiver, and the rest in its turn."""

from __future__ import annotations

import asyncio
from collections import Counter

from control_plane.domain.errors import BanksmanError
from control_plane.domain.ids import DeliveryId
from control_plane.domain.notification import Delivery, Outcome, headline
from control_plane.lifecycle import notifications
from control_plane.lifecycle.house import House
from control_plane.notifications.senders import Senders
from control_plane.notifications.signing import headers
from control_plane.telemetry import logger

log = logger("notifications")

AT_ONCE = 32
AT_ONCE_EACH = 4
# A wake-up that was lost, and a clock that was set, cost this much.
LOOK_AGAIN_S = 60.0
# Until a result is stored that could not be stored, and after a look that failed.
STORE_AGAIN_S = 5.0


class Courier:
    """What is under way is in memory only: after a crash it is sent again, under the same id."""

    def __init__(self, house: House, senders: Senders) -> None:
        self._house, self._senders = house, senders
        self._under_way: dict[DeliveryId, str] = {}

    async def run(self) -> None:
        """At the start what an earlier server has left, then whatever becomes due."""
        try:
            with self._house.watch.subscribe(notifications.TOPIC) as wakeups:
                async with asyncio.TaskGroup() as group:
                    while True:
                        await wakeups.wait(await self._looked(group))
        finally:
            await self._senders.close()

    async def _looked(self, group: asyncio.TaskGroup) -> float:
        try:
            return await self._look(group)
        except BanksmanError as error:
            log.warning("notifications are sent later", error=str(error))
            return STORE_AGAIN_S
        except Exception:  # one bad look must not take the control plane down
            log.exception("notifications could not be looked at")
            # Slept through: wake-ups come with every run, and would make it spin.
            await asyncio.sleep(STORE_AGAIN_S)
            return 0.0

    async def _look(self, group: asyncio.TaskGroup) -> float:
        """Start what is due and has room; how long to wait if nobody calls."""
        while len(self._under_way) < AT_ONCE:
            busy = Counter(self._under_way.values())
            found = await notifications.due(
                self._house,
                limit=AT_ONCE - len(self._under_way),
                besides=tuple(self._under_way),
                besides_targets=[target for target, count in busy.items() if count >= AT_ONCE_EACH],
            )
            if not found:
                break
            for each in found:
                if busy[each.target] < AT_ONCE_EACH:
                    busy[each.target] += 1
                    self._under_way[each.id] = each.target
                    group.create_task(self._deliver(each), name=f"notification {each.id}")
        now = self._house.clock.now()
        following = await notifications.next_at(self._house, now)
        if following is None:
            return LOOK_AGAIN_S
        return min(LOOK_AGAIN_S, max(0.0, (following - now).total_seconds()) + 0.01)

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            outcome = await self._attempt(delivery)
            await self._store(delivery, outcome)
        finally:
            del self._under_way[delivery.id]
            self._house.watch.notify(notifications.TOPIC)

    async def _attempt(self, delivery: Delivery) -> Outcome:
        try:
            secret = None
            if delivery.secret_ref:
                secret = await notifications.secret_value(self._house, delivery.project_id, delivery.secret_ref)
                if secret is None:
                    return Outcome(ok=False, error=f"there is no secret {delivery.secret_ref}")
            if delivery.webhook_url:
                payload = delivery.payload.encode()
                timestamp = int(self._house.clock.now().timestamp())
                signed = headers(delivery.id, timestamp, payload, secret)
                return await self._senders.webhooks.send(delivery.webhook_url, payload, signed)
            title, text = headline(delivery.payload)
            return await self._senders.channels.send((secret or b"").decode().strip(), title, text)
        except (ValueError, BanksmanError) as error:
            # What does not decode would be quoted in the error.
            why = "the secret is no text" if isinstance(error, UnicodeError) else str(error)
            return Outcome(ok=False, error=why)
        except Exception as error:  # it counts as an attempt: the next one comes later, and the others go on
            log.exception("a notification could not be sent", notification=delivery.id)
            return Outcome(ok=False, error=f"an internal error ({type(error).__name__})")

    async def _store(self, delivery: Delivery, outcome: Outcome) -> None:
        """Until it is stored the delivery stays under way: it must not be sent over and over on a full disk."""
        with self._house.watch.subscribe() as nobody:
            while True:
                try:
                    stored = await notifications.attempted(
                        self._house, delivery, outcome, self._senders.rules.first_wait_s
                    )
                    break
                except BanksmanError as error:
                    log.warning("the end of a notification is stored later", notification=delivery.id, error=str(error))
                except Exception:  # as above: it must neither end the others nor be sent again meanwhile
                    log.exception("the end of a notification could not be stored", notification=delivery.id)
                await nobody.wait(STORE_AGAIN_S)
        if stored is not None and not outcome.ok:
            log.info(
                "a notification was not delivered",
                notification=delivery.id,
                attempts=stored.attempts,
                state=str(stored.state),
                error=stored.error,
            )
