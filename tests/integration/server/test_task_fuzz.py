"""Whatever a client sends about tasks: an allowed status, never an incident, and nothing changed by a refusal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from banksman.v1 import task_pb2
from hypothesis import HealthCheck, given, settings

from tests.fakes.server import Doors, Server, spec
from tests.integration.server.messages import messages

METHODS = {method.name: method for method in task_pb2.DESCRIPTOR.services_by_name["TaskService"].methods}
ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ABORTED,
}


class Asker:
    """A server, its one task, and a loop in which it is asked."""

    def __init__(self, loop: asyncio.Runner, server: Server) -> None:
        self._loop, self._server = loop, server
        loop.run(self._open())

    async def _open(self) -> None:
        await self._server.start()
        self.doors: Doors = self._server.doors()

    def begin(self) -> None:
        """There is a task that a message may be about."""
        self._loop.run(self._make())

    async def _make(self) -> None:
        task = task_pb2.Task(name="a task", spec=spec("true"))
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self.doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=task))

    def close(self) -> None:
        self._loop.run(self._server.close())

    def ask(self, name: str, request: Any) -> tuple[grpc.StatusCode, str]:
        return self._loop.run(self._ask(name, request))

    async def _ask(self, name: str, request: Any) -> tuple[grpc.StatusCode, str]:
        before = await self._state()
        try:
            await getattr(self.doors.tasks, name)(request, timeout=30)
        except grpc.aio.AioRpcError as error:
            assert await self._state() == before, "a refusal changes nothing"
            return error.code(), error.details() or ""
        return grpc.StatusCode.OK, ""

    async def _state(self) -> bytes:
        request = task_pb2.ListTasksRequest(page_size=1000, show_deleted=True)
        answer = await self.doors.tasks.ListTasks(request)
        return bytes(answer.SerializeToString(deterministic=True))


@pytest.fixture(scope="module")
def asker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    with asyncio.Runner() as loop:
        made = Asker(loop, Server(tmp_path_factory.mktemp("fuzz") / "state"))
        yield made
        made.close()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_any_message_is_answered_in_order(asker: Asker, name: str) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(request=messages(METHODS[name].input_type))
    def any_message(request: Any) -> None:
        status, details = asker.ask(name, request)
        assert status in ALLOWED, (status, details)
        assert "Traceback" not in details
        assert "incident" not in details

    asker.begin()
    any_message()
