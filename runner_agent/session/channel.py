"""How the agent dials: address, plaintext rule, and the channel options that were found to take effect."""

from __future__ import annotations

import asyncio
import ipaddress
from urllib.parse import urlsplit

import grpc

CONNECT_TIMEOUT_S = 20.0
MAX_MESSAGE_BYTES = 4 << 20

# ping_timeout_ms is the option that notices a frozen peer; keepalive_timeout_ms alone does not.
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 15_000),
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    ("grpc.max_receive_message_length", 4 * MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A new try is a new connection: no back-off is inherited from the channel before.
    ("grpc.use_local_subchannel_pool", 1),
)


class BadAddress(ValueError):
    """The server's address cannot be used; the text says what to write instead."""


class Unreachable(ConnectionError):
    """Nobody answers at the server's address."""


def target_of(server: str, *, insecure: bool) -> tuple[str, bool]:
    """The gRPC target of `http://host:port` or `https://host:port`, and whether it is encrypted.

    Raises BadAddress: also for plaintext to another host without `insecure`.
    """
    parts = urlsplit(server if "//" in server else f"http://{server}")
    try:
        port = parts.port
    except ValueError as error:
        raise BadAddress(f"{server!r} has no usable port: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadAddress(f"{server!r} is not http://host:port or https://host:port")
    secure = parts.scheme == "https"
    port = port if port is not None else (443 if secure else 7070)
    if not secure and not insecure and not is_loopback(parts.hostname):
        raise BadAddress(
            f"{server} is another host and http:// is not encrypted: the credential and every log could be read on "
            "the way. Use https://, an ssh tunnel to a loopback port, or --insecure if the network is trusted"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}", secure


def is_loopback(host: str) -> bool:
    """Whether the host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_channel(server: str, *, insecure: bool) -> grpc.aio.Channel:
    """A new channel, not yet connected. Raises BadAddress."""
    target, secure = target_of(server, insecure=insecure)
    if secure:
        return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), options=CHANNEL_OPTIONS)
    return grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)


async def connect(channel: grpc.aio.Channel) -> None:
    """Wait until the channel is connected. Raises Unreachable."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            state = channel.get_state(try_to_connect=True)
            while state is not grpc.ChannelConnectivity.READY:
                if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                    raise Unreachable("the connection was refused")
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
    except TimeoutError:
        raise Unreachable(f"no connection within {CONNECT_TIMEOUT_S:.0f} s") from None
