"""Other channels through their library: what it may not do, and what it must not say."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import apprise
import pytest

from control_plane.domain.extras import NO_CHANNELS
from control_plane.notifications.channels import Channels
from control_plane.notifications.rules import Rules

# The library imports modules that are deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

RULES = Rules(channels=frozenset({"slack", "json", "tgram"}))
SECRET = "very-secret-token"


@pytest.fixture
async def channels() -> AsyncIterator[Channels]:
    made = Channels(RULES)
    yield made
    made.close()


@pytest.fixture
async def hasty() -> AsyncIterator[Channels]:
    made = Channels(replace(RULES, timeout_s=0.01))
    yield made
    made.close()


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    """What the server's log would get."""
    root, stream = logging.getLogger(), io.StringIO()
    outlet, level = logging.StreamHandler(stream), root.level
    root.addHandler(outlet)
    root.setLevel(logging.DEBUG)
    yield stream
    root.setLevel(level)
    root.removeHandler(outlet)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (f"mailto://{SECRET}@example.com", "channel 'mailto' is not allowed: see the setting notify_channels"),
        (f"{SECRET}://x", "channel 'this' is not allowed: see the setting notify_channels"),
        (f"slack://{SECRET}", "the secret holds no URL of a channel that is known"),
        (f"json://{SECRET}@127.0.0.1:1/{SECRET}", "the channel did not take it"),
    ],
)
async def test_what_fails_is_told_without_the_url(channels: Channels, said: io.StringIO, url: str, why: str) -> None:
    outcome = await channels.send(url, "title", "text")
    assert (outcome.ok, outcome.error) == (False, why)
    assert SECRET not in said.getvalue()


SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"


@pytest.mark.parametrize("between", [", ", " ", "\n", ";", "/,"])
async def test_one_secret_leads_to_one_channel(
    channels: Channels, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    """The library would read a list of them, of which only the first has a scheme that was looked at."""
    told: list[tuple[str, int]] = []

    def notify(self: apprise.Apprise, **_: object) -> bool:
        told.extend((type(each).__name__, len(self)) for each in self)
        return True

    monkeypatch.setattr(apprise.Apprise, "notify", notify)
    await channels.send(f"{SLACK}{between}json://127.0.0.1:1/", "title", "text")
    assert told in ([], [("NotifySlack", 1)])


@pytest.mark.parametrize("template", ["/etc/hostname", "file:///etc/hostname", "http://169.254.169.254/", "x.json"])
@pytest.mark.parametrize("url", [SLACK, "tgram://123456789:abcdefg_hijklmnop/123"])
async def test_no_file_of_the_host_is_sent_along(channels: Channels, url: str, template: str) -> None:
    outcome = await channels.send(f"{url}/?template={template}", "title", "text")
    assert (outcome.ok, outcome.error) == (False, "a channel's URL must not name a template")


async def test_without_the_library_it_says_what_to_install(channels: Channels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    outcome = await channels.send("json://127.0.0.1:1/", "title", "text")
    assert (outcome.ok, outcome.final, outcome.error) == (False, False, NO_CHANNELS)


async def test_a_library_that_raises_is_a_failure_like_another(
    channels: Channels, monkeypatch: pytest.MonkeyPatch, said: io.StringIO
) -> None:
    def broken(*_: object, **__: object) -> bool:
        raise RuntimeError(f"a bug at {SECRET}")

    monkeypatch.setattr(apprise.Apprise, "notify", broken)
    outcome = await channels.send("json://127.0.0.1:1/", "title", "text")
    assert (outcome.ok, outcome.error) == (False, "the channel's library failed: RuntimeError")
    assert SECRET not in said.getvalue()


async def test_a_library_that_hangs_is_given_up(hasty: Channels, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hanging(*_: object, **__: object) -> bool:
        return release.wait(60)

    monkeypatch.setattr(apprise.Apprise, "notify", hanging)
    try:
        outcome = await hasty.send("json://127.0.0.1:1/", "title", "text")
    finally:
        release.set()
    assert (outcome.ok, outcome.error) == (False, "the channel did not answer in time")
