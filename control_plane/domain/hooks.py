"""Where a webhook may go: what its URL alone tells, when a task names it; the rest is seen at each delivery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from control_plane.domain.addresses import Network, is_allowed

DEFAULT_PORTS = {"https": 443, "http": 80}
WITH_USER = "a URL with a user is not allowed"
ADDRESS = "the host's address is not allowed: see the setting notify_networks"


@dataclass(frozen=True, slots=True, kw_only=True)
class HookRules:
    """As the operator has set them. By default only https to public addresses. `ports` None: any."""

    http: bool = False
    ports: frozenset[int] | None = frozenset({443, 8443})
    networks: Sequence[Network] = ()


def why_no_scheme(scheme: str, rules: HookRules) -> str:
    """Why nothing is sent by this scheme; empty when it may be."""
    if scheme == "https" or (rules.http and scheme == "http"):
        return ""
    return f"{scheme}:// is not allowed: see the setting notify_http"


def why_no_port(port: int, rules: HookRules) -> str:
    """Why nothing is sent to this port; empty when it may be."""
    if rules.ports is None or port in rules.ports:
        return ""
    return f"port {port} is not allowed: see the setting notify_ports"


def why_not(url: str, rules: HookRules) -> str:
    """Why every delivery to this URL will be refused; empty where only a delivery can tell."""
    try:
        parts = urlsplit(url)
        return _why_not(parts, parts.hostname or "", parts.port, rules)
    except ValueError:
        return ""  # what is no URL is refused in other words


def _why_not(parts: SplitResult, host: str, port: int | None, rules: HookRules) -> str:
    if parts.scheme not in DEFAULT_PORTS:
        return ""
    said = why_no_scheme(parts.scheme, rules) or why_no_port(port or DEFAULT_PORTS[parts.scheme], rules)
    if said:
        return said
    try:
        ip_address(host)
    except ValueError:
        return ""  # a name leads here today and there tomorrow
    return "" if is_allowed(host, rules.networks) else ADDRESS
