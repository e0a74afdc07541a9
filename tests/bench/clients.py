"""Asynchronous stubs of the product's services, with the admin's token on each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from banksman.v1 import (
    log_pb2_grpc,
    run_pb2_grpc,
    runner_pb2_grpc,
    schedule_pb2_grpc,
    secret_pb2_grpc,
    system_pb2_grpc,
    task_pb2_grpc,
)

OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 16 << 20))


class Stubs:
    """One connection; a second one is a second Stubs."""

    def __init__(self, target: str, token: str) -> None:
        self._channel = grpc.aio.insecure_channel(target, options=OPTIONS)
        channel: Any = _WithToken(self._channel, (("authorization", f"Bearer {token}"),))
        self.runs = run_pb2_grpc.RunServiceStub(channel)
        self.runners = runner_pb2_grpc.RunnerServiceStub(channel)
        self.logs = log_pb2_grpc.LogServiceStub(channel)
        self.tasks = task_pb2_grpc.TaskServiceStub(channel)
        self.schedules = schedule_pb2_grpc.ScheduleServiceStub(channel)
        self.secrets = secret_pb2_grpc.SecretServiceStub(channel)
        self.system = system_pb2_grpc.SystemServiceStub(channel)

    async def close(self) -> None:
        await self._channel.close()


class _WithToken:
    """A channel whose calls carry metadata. No interceptor: that would be measured too."""

    def __init__(self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...]) -> None:
        self._channel, self._metadata = channel, metadata

    def __getattr__(self, name: str) -> Callable[..., Callable[..., Any]]:
        make = getattr(self._channel, name)

        def bind(*arguments: Any, **named: Any) -> Callable[..., Any]:
            call = make(*arguments, **named)

            def with_token(*given: Any, **more: Any) -> Any:
                return call(*given, metadata=self._metadata, **more)

            return with_token

        return bind
