"""The listening gRPC server: options that were measured, health, reflection, and a stop that loses nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from control_plane.api.interceptors import Gate
from control_plane.telemetry import logger

log = logger("api")

OPTIONS: Sequence[tuple[str, Any]] = (
    # Otherwise a second server takes the same port silently.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # The one that notices a frozen peer; keepalive_timeout alone does not.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_concurrent_streams", 1_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 4 << 20),
    # A Welcome carries a verdict, and perhaps an assignment with its secrets, for every held attempt.
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.max_metadata_size", 16 << 10),
)


class PortTaken(Exception):
    """The address cannot be listened on; the text says which."""


def _found_by_name(service_name: str, method_handlers: object) -> None:
    """They were added as generic methods, too."""


class Door:
    """One listening server."""

    def __init__(self, gate: Gate) -> None:
        self.server = grpc.aio.server(interceptors=(gate,), options=OPTIONS)
        # A registered method has a task of its own that waits for a call, and each call walks through all of them: with
        # ninety methods a sixth of what a small call costs. By its name a method is found as well.
        self.server.add_registered_method_handlers = _found_by_name  # type: ignore[method-assign]
        self._gate = gate
        self._health = health.aio.HealthServicer()
        self._names: list[str] = []
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)

    def announce(self, *services: str) -> None:
        """Serve reflection and health for services that were added, by full name."""
        self._names = [*services, health.SERVICE_NAME]
        reflection.enable_server_reflection((*self._names, reflection.SERVICE_NAME), self.server)

    async def open(self, host: str, port: int) -> int:
        """Listen and serve; returns the port. Raises PortTaken."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = self.server.add_insecure_port(address)
        except RuntimeError as error:
            raise PortTaken(f"cannot listen on {address}: it is taken, or not an address of this host") from error
        await self.server.start()
        await self._say(health_pb2.HealthCheckResponse.SERVING)
        return bound

    async def refuse(self) -> None:
        """Tell load balancers and probes that nothing new should come."""
        await self._say(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def close(self, grace_s: float) -> None:
        """Take no new calls, end those that only wait, give the others their time, then cut them."""
        self._gate.stop_waiting()
        await self.server.stop(grace_s)

    async def _say(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", *self._names):
            await self._health.set(name, status)
