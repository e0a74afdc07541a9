"""Sends a webhook: resolves the host, checks every address, and connects to the one that was checked."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Protocol

import httpx

from control_plane.domain.addresses import is_allowed
from control_plane.domain.hooks import ADDRESS, DEFAULT_PORTS, WITH_USER, why_no_port, why_no_scheme
from control_plane.domain.notification import Outcome
from control_plane.notifications.rules import Rules

ADDRESSES_TRIED = 3
GONE = 410


class Names(Protocol):
    async def addresses(self, host: str, port: int) -> tuple[str, ...]: ...


class Refused(Exception):
    """Why a request is not made, in a sentence."""


class Webhooks:
    """One client without proxies, cookies, redirects or kept connections. Of an answer only the status is read."""

    def __init__(self, rules: Rules, names: Names, agent: str) -> None:
        self._rules, self._names = rules, names
        self._client = httpx.AsyncClient(
            verify=ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(rules.timeout_s),
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=0),
            headers={"user-agent": agent, "accept-encoding": "identity"},
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def send(self, url: str, payload: bytes, headers: Mapping[str, str]) -> Outcome:
        """One attempt; never raises for what the receiver or the network does."""
        try:
            async with asyncio.timeout(self._rules.timeout_s):
                return await self._post(httpx.URL(url), payload, headers)
        except Refused as refused:
            return Outcome(ok=False, error=str(refused))
        except TimeoutError:
            return Outcome(ok=False, error=f"there was no answer within {self._rules.timeout_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            return Outcome(ok=False, error=f"the request failed: {type(error).__name__}")

    async def _post(self, url: httpx.URL, payload: bytes, headers: Mapping[str, str]) -> Outcome:
        host, addresses = await self._checked(url)
        sent = {**headers, "host": url.netloc.decode("ascii"), "content-type": "application/json"}
        failed: httpx.ConnectError | None = None
        for address in addresses[:ADDRESSES_TRIED]:
            request = self._client.build_request(
                "POST",
                url.copy_with(host=address),
                content=payload,
                headers=sent,
                # The certificate is the host's, whatever the address.
                extensions={"sni_hostname": host},
            )
            try:
                answer = await self._client.send(request, stream=True)
            except httpx.ConnectError as error:
                failed = error
                continue
            await answer.aclose()
            return _judged(answer.status_code)
        raise failed or Refused("the host has no address")

    async def _checked(self, url: httpx.URL) -> tuple[str, tuple[str, ...]]:
        """The host and its addresses, all of them allowed. Raises Refused."""
        rules = self._rules
        if said := why_no_scheme(url.scheme, rules):
            raise Refused(said)
        if url.userinfo:
            raise Refused(WITH_USER)
        port = url.port or DEFAULT_PORTS[url.scheme]
        if said := why_no_port(port, rules):
            raise Refused(said)
        host = url.raw_host.decode("ascii")
        try:
            addresses = await self._names.addresses(host, port)
        except OSError as error:
            raise Refused("the host's name is not known") from error
        if not addresses or not all(is_allowed(each, rules.networks) for each in addresses):
            raise Refused(ADDRESS)
        return host, addresses


def _judged(status: int) -> Outcome:
    if 200 <= status < 300:
        return Outcome(ok=True, status=status)
    if 300 <= status < 400:
        return Outcome(ok=False, status=status, error="it answered with a redirect, which is not followed")
    if status == GONE:
        return Outcome(ok=False, status=status, error="the receiver is gone for good", final=True)
    return Outcome(ok=False, status=status, error=f"it answered {status}")
