"""Which addresses a notification may go to: public ones, and what an operator has allowed."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

# Prefixes behind which an IPv4 address lies, and such as lead somewhere else than they seem to.
_NAT64 = IPv6Network("64:ff9b::/96")
_REFUSED_6 = tuple(
    IPv6Network(text)
    for text in ("64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96", "::ffff:0:0:0/96", "fec0::/10", "3fff::/20")
)
# Special ones that not every release of the standard library knows, and what clouds have inside at a public address.
_REFUSED_4 = tuple(IPv4Network(text) for text in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32"))


def networks(text: str) -> tuple[Network, ...]:
    """Networks from "10.0.0.0/8, fd00::/8". Raises ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def ports(text: str) -> frozenset[int] | None:
    """Ports from "443, 8443"; None for "*": any. Raises ValueError."""
    if text.strip() == "*":
        return None
    found = frozenset(int(part) for part in text.split(",") if part.strip())
    if not all(0 < port < 65_536 for port in found):
        raise ValueError("a port is a number from 1 to 65535")
    return found


def is_allowed(text: str, allowed: Sequence[Network] = ()) -> bool:
    """Whether a connection to this address may be made. What is no address is not allowed."""
    try:
        return _may(ip_address(text), allowed)
    except ValueError:
        return False


def _may(address: Address, allowed: Sequence[Network]) -> bool:
    if any(address.version == network.version and address in network for network in allowed):
        return True
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        if address.ipv4_mapped is not None:
            return _may(address.ipv4_mapped, allowed)
        if address in _NAT64:
            return _may(IPv4Address(int(address) & 0xFFFF_FFFF), allowed)
        if any(address in network for network in _REFUSED_6):
            return False
    elif any(address in network for network in _REFUSED_4):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)
