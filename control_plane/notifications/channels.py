"""Other channels, through Apprise: the only file that knows it. Without it they fail and say so."""

from __future__ import annotations

import asyncio
import importlib
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from control_plane.domain.extras import NO_CHANNELS
from control_plane.domain.notification import Outcome
from control_plane.notifications.rules import Rules

THREADS = 4
_NOWHERE = logging.NullHandler()


class Channels:
    """Blocking calls in few threads of its own."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="channel")

    async def send(self, url: str, title: str, text: str) -> Outcome:
        """One attempt; `url` is a secret and shows up nowhere."""
        scheme = urlsplit(url).scheme.lower()
        if scheme not in self._rules.channels:
            known = scheme if scheme.isalnum() and len(scheme) < 20 else "this"
            return Outcome(ok=False, error=f"channel {known!r} is not allowed: see the setting notify_channels")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(3 * self._rules.timeout_s):
                return await loop.run_in_executor(self._threads, _notify, url, title, text, self._rules.channels)
        except TimeoutError:
            return Outcome(ok=False, error="the channel did not answer in time")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _notify(url: str, title: str, text: str, allowed: frozenset[str]) -> Outcome:
    # It quotes tokens out of URLs in its warnings.
    said = logging.getLogger("apprise")
    said.propagate = False
    said.addHandler(_NOWHERE)
    try:
        return _told(importlib.import_module("apprise"), url, title, text, allowed)
    except ImportError:
        return Outcome(ok=False, error=NO_CHANNELS)
    except Exception as error:  # noqa: BLE001 - whatever a channel's code stumbles over; its words may hold the URL
        return Outcome(ok=False, error=f"the channel's library failed: {type(error).__name__}")


def _told(apprise: Any, url: str, title: str, text: str, allowed: frozenset[str]) -> Outcome:
    # One service of the scheme that is allowed: what adds URLs would take a whole list of them, with any schemes.
    service = apprise.Apprise.instantiate(url)
    if service is None:
        return Outcome(ok=False, error="the secret holds no URL of a channel that is known")
    if not allowed & set(service.schemas()):
        return Outcome(ok=False, error="the secret holds the URL of a channel that is not allowed")
    # A template is a file of this host, or a page of any other, that would be sent along.
    if any(isinstance(each, apprise.AppriseAttachment) and len(each) for each in vars(service).values()):
        return Outcome(ok=False, error="a channel's URL must not name a template")
    channel = apprise.Apprise()
    channel.add(service)
    if channel.notify(title=title, body=text or title):
        return Outcome(ok=True)
    return Outcome(ok=False, error="the channel did not take it")
