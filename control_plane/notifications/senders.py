"""What sends, made when there is first something to send: most servers never need it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import cached_property
from typing import TYPE_CHECKING

from control_plane.notifications.rules import Rules

if TYPE_CHECKING:
    from control_plane.notifications.channels import Channels
    from control_plane.notifications.webhooks import Webhooks


class Senders:
    """One of each kind. `agent` is what receivers see as the user agent."""

    def __init__(self, rules: Rules, agent: str) -> None:
        self.rules, self._agent = rules, agent
        self._open = AsyncExitStack()

    @cached_property
    def webhooks(self) -> Webhooks:
        from control_plane.notifications.resolver import Resolver
        from control_plane.notifications.webhooks import Webhooks

        names = Resolver()
        self._open.callback(names.close)
        made = Webhooks(self.rules, names, self._agent)
        self._open.push_async_callback(made.close)
        return made

    @cached_property
    def channels(self) -> Channels:
        from control_plane.notifications.channels import Channels

        made = Channels(self.rules)
        self._open.callback(made.close)
        return made

    async def close(self) -> None:
        """Let go of connections and threads."""
        await self._open.aclose()
