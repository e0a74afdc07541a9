"""Whatever a client sends: an allowed status, never an incident, and nothing changed by a refusal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from banksman.v1 import access_pb2, project_pb2, run_pb2, schedule_pb2, secret_pb2, task_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from hypothesis import HealthCheck, given, settings

from tests.fakes.server import Doors, Server, spec
from tests.integration.server.messages import messages
from tests.integration.server.test_access import methods

# A runner's own door has tests of its own; streams answer with more than a status.
METHODS = {
    f"{method.containing_service.name}/{method.name}": method
    for method in methods()
    if method.containing_service.name != "RunnerSessionService" and not method.server_streaming
}
ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.OUT_OF_RANGE,
}
PATIENCE_S = 10


class Asker:
    """A server with one thing of most kinds, and a loop in which it is asked."""

    def __init__(self, loop: asyncio.Runner, server: Server) -> None:
        self._loop, self._server = loop, server
        loop.run(self._open())

    async def _open(self) -> None:
        await self._server.start()
        self.doors: Doors = self._server.doors()

    def close(self) -> None:
        self._loop.run(self._server.close())

    def begin(self) -> None:
        """There is a task, a schedule and a secret that a message may be about."""
        self._loop.run(self._make())

    async def _make(self) -> None:
        task = task_pb2.Task(name="a task", spec=spec("true"), schedules=[schedule_pb2.Schedule(cron="@yearly")])
        for call in (
            self.doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=task)),
            self.doors.secrets.SetSecret(secret_pb2.SetSecretRequest(name="x", value=b"long enough")),
        ):
            with contextlib.suppress(grpc.aio.AioRpcError):
                await call

    def ask(self, method: MethodDescriptor, request: Any) -> tuple[grpc.StatusCode, str]:
        return self._loop.run(self._ask(method, request))

    async def _ask(self, method: MethodDescriptor, request: Any) -> tuple[grpc.StatusCode, str]:
        before = await self._state()
        path = f"/{method.containing_service.full_name}/{method.name}"
        answer = message_factory.GetMessageClass(method.output_type)
        call = self.doors.channel.unary_unary(
            path, request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
        )
        try:
            await call(request, timeout=PATIENCE_S)
        except grpc.aio.AioRpcError as error:
            assert await self._state() == before, "a refusal changes nothing"
            return error.code(), error.details() or ""
        return grpc.StatusCode.OK, ""

    async def _state(self) -> list[bytes]:
        doors, size = self.doors, 1000
        answers = [
            await doors.tasks.ListTasks(task_pb2.ListTasksRequest(page_size=size, show_deleted=True)),
            await doors.runs.ListRuns(run_pb2.ListRunsRequest(page_size=size)),
            await doors.schedules.ListSchedules(schedule_pb2.ListSchedulesRequest(page_size=size)),
            await doors.secrets.ListSecrets(secret_pb2.ListSecretsRequest(page_size=size)),
            await doors.projects.ListProjects(project_pb2.ListProjectsRequest(page_size=size)),
            await doors.access.ListPrincipals(access_pb2.ListPrincipalsRequest(page_size=size)),
        ]
        # Why a queued run waits is said anew each time.
        for run in answers[1].runs:
            run.waiting_because = ""
        return [answer.SerializeToString(deterministic=True) for answer in answers]


@pytest.fixture(scope="module")
def asker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    with asyncio.Runner() as loop:
        made = Asker(loop, Server(tmp_path_factory.mktemp("fuzz") / "state"))
        yield made
        made.close()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_any_message_is_answered_in_order(asker: Asker, name: str) -> None:
    method = METHODS[name]
    # Waiting for a run ends when the caller's time is up.
    allowed = ALLOWED | ({grpc.StatusCode.DEADLINE_EXCEEDED} if method.name == "WaitRun" else set())

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(request=messages(method.input_type))
    def any_message(request: Any) -> None:
        status, details = asker.ask(method, request)
        assert status in allowed, (status, details)
        assert "Traceback" not in details
        assert "incident" not in details

    asker.begin()
    any_message()
