"""Wake-ups by topic inside one process. They carry no data: who is woken reads the store."""

import asyncio
from types import TracebackType
from typing import Self


class Subscription:
    """A latched wake-up for some topics: a notify between two waits is not lost, several count as one."""

    def __init__(self, watch: "Watch", topics: frozenset[str]) -> None:
        self._watch = watch
        self._topics = topics
        self._woken = asyncio.Event()

    def __enter__(self) -> Self:
        self._watch.add(self, self._topics)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watch.remove(self, self._topics)

    def wake(self) -> None:
        self._woken.set()

    def take(self) -> bool:
        """Whether a topic was notified since the last wait, which is over with this."""
        woken = self._woken.is_set()
        self._woken.clear()
        return woken

    async def wait(self, timeout_s: float | None = None) -> bool:
        """True when a topic was notified since the last wait, False when the timeout passed first."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


class Watch:
    """Topics are strings: "runs", "schedules", "run:<id>", "runner:<id>", "log:<run>:<epoch>".

    For dispatch: "queue" whenever it may have something to do, and with it "queued" when a run waits that did not
    before, "slots" when a slot may be free.

    For the event loop's thread only.
    """

    def __init__(self) -> None:
        self._subscriptions: dict[str, set[Subscription]] = {}

    def subscribe(self, *topics: str) -> Subscription:
        return Subscription(self, frozenset(topics))

    def notify(self, *topics: str) -> None:
        for topic in topics:
            for subscription in self._subscriptions.get(topic, ()):
                subscription.wake()

    def add(self, subscription: Subscription, topics: frozenset[str]) -> None:
        for topic in topics:
            self._subscriptions.setdefault(topic, set()).add(subscription)

    def remove(self, subscription: Subscription, topics: frozenset[str]) -> None:
        for topic in topics:
            members = self._subscriptions.get(topic)
            if members is not None:
                members.discard(subscription)
                if not members:
                    del self._subscriptions[topic]
