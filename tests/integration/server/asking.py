"""Asking a server whatever a client might send: the status, what its log says, and whether a refusal changed a row."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog
from banksman.v1 import (
    access_pb2,
    project_pb2,
    runner_pb2,
    schedule_pb2,
    secret_pb2,
    task_pb2,
    template_pb2,
)
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

from tests.fakes.server import Doors, Server, spec
from tests.integration.server.messages import KNOWN
from tests.integration.server.test_access import methods
from tests.waiting import wait_for_async

C = grpc.StatusCode
ALLOWED = frozenset(
    {C.OK, C.INVALID_ARGUMENT, C.NOT_FOUND, C.ALREADY_EXISTS, C.FAILED_PRECONDITION, C.ABORTED, C.OUT_OF_RANGE}
)
# What a caller that is no admin may be told beside these.
STRANGERS = ALLOWED | {C.PERMISSION_DENIED}
# The doors of those who have no token yet.
PROOFS = ALLOWED | {C.UNAUTHENTICATED}
# The caller's own time is up; nothing else may take that long.
WAITS = frozenset({"RunService/WaitRun"})
PATIENCE_S = 10.0
WAIT_S = 0.5
# At rest is a database that is the same in so many looks, one after another.
LOOKS = 15
# What changes by itself or by being read: the audit trail, when a token was last used, how far the database is.
BESIDES = frozenset({"audit_events", "audit_heads", "settings", "alembic_version", "sqlite_stat1", "sqlite_stat4"})
UNWATCHED = {"tokens": {"last_used_at"}, "runners": {"last_seen_at"}}

# A runner's stream has tests of its own.
METHODS: dict[str, MethodDescriptor] = {
    f"{method.containing_service.name}/{method.name}": method for method in methods() if not method.client_streaming
}


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was asked, and what was wrong with an answer."""

    calls: int = 0
    accepted: int = 0
    # By method and status.
    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


class Asker:
    """A server with one thing of most kinds, and a loop in which it is asked."""

    def __init__(self, loop: asyncio.Runner, server: Server) -> None:
        self._loop, self._server = loop, server
        self.tally = Tally()
        loop.run(self._open())

    async def _open(self) -> None:
        await self._server.start()
        self.admin = self._server.doors()
        await self.admin.projects.CreateProject(
            project_pb2.CreateProjectRequest(project=project_pb2.Project(name="theirs"))
        )
        kind = access_pb2.PRINCIPAL_KIND_USER
        eve = access_pb2.Principal(kind=kind, name="eve", project_ids=["default"])
        await self.admin.access.CreatePrincipal(access_pb2.CreatePrincipalRequest(principal=eve))
        made = await self.admin.access.CreateToken(access_pb2.CreateTokenRequest(principal="eve"))
        self.member = self._server.doors(made.secret)
        mal = access_pb2.Principal(kind=kind, name="mal")
        mal = await self.admin.access.CreatePrincipal(access_pb2.CreatePrincipalRequest(principal=mal))
        made = await self.admin.access.CreateToken(access_pb2.CreateTokenRequest(principal="mal"))
        runner = await self._server.runner("r1")
        self._connection = sqlite3.connect(f"file:{self._server.state}/banksman.db?mode=ro", uri=True)
        self._tables = self._columns()
        known = ("default", "theirs", mal.id, "r1", "a task", "a template", "a schedule")
        KNOWN[:] = [*known, runner.runner_id, made.token.id]
        self._project = await self.admin.projects.GetProject(project_pb2.GetProjectRequest(project="default"))

    def close(self) -> None:
        self._connection.close()
        self._loop.run(self._server.close())

    def begin(self) -> None:
        """There is a task, a schedule, a run and a secret that a message may be about; perhaps they were deleted."""
        self._loop.run(self._make())

    async def _make(self) -> None:
        task = task_pb2.Task(name="a task", spec=spec("true"), is_public=True)
        project = project_pb2.Project(id=self._project.id, name="default")
        schedule = schedule_pb2.Schedule(name="a schedule", task_id="a task", cron="@yearly")
        run = task_pb2.RunTaskRequest(task="a task")
        template = template_pb2.Template(name="a template", spec=spec("echo", "{{ x }}"), is_public=True)
        template.parameters.add(name="x")
        for call in (
            self.admin.projects.UpdateProject(project_pb2.UpdateProjectRequest(project=project)),
            self.admin.tasks.CreateTask(task_pb2.CreateTaskRequest(task=task)),
            self.admin.templates.CreateTemplate(template_pb2.CreateTemplateRequest(template=template)),
            self.admin.schedules.CreateSchedule(schedule_pb2.CreateScheduleRequest(schedule=schedule)),
            self.admin.secrets.SetSecret(secret_pb2.SetSecretRequest(name="x", value=b"long enough")),
            self.admin.tasks.RunTask(run),
            self.admin.runners.ResumeRunner(runner_pb2.ResumeRunnerRequest(runner="r1")),
        ):
            with contextlib.suppress(grpc.aio.AioRpcError):
                made = await call
                if getattr(made, "id", "") and made.id not in KNOWN:
                    KNOWN.append(made.id)
        del KNOWN[9:-24]

    def ask(self, name: str, request: Any, *, as_member: bool = False) -> None:
        """Counts the call, and what is wrong with its answer."""
        doors = self.member if as_member else self.admin
        allowed = STRANGERS if as_member else ALLOWED
        if name.startswith("RunnerSessionService/"):
            allowed = PROOFS
        before = self._digest()
        with structlog.testing.capture_logs() as log:
            status, details = self._loop.run(self._ask(doors, name, request))
        changed = self._digest() != before and (status is C.OK or self._changes_again(doors, name, request))
        self.tally.calls += 1
        self.tally.accepted += status is C.OK
        self.tally.statuses[name, status.name] += 1
        wrong = [entry for entry in log if entry["log_level"] in ("error", "critical") or "exc_info" in entry]
        timely = status is C.DEADLINE_EXCEEDED and (name in WAITS or METHODS[name].server_streaming)
        if status not in allowed and not timely:
            self._found(name, request, f"answers {status.name}: {details}")
        if wrong or "Traceback" in details or "incident" in details:
            self._found(name, request, f"leaves an incident: {wrong or details}")
        if changed and status is not C.OK and not timely:
            self._found(name, request, f"is refused with {status.name}, and changed the database")
        if status is C.OK and "/Delete" in name:
            self.begin()

    def _changes_again(self, doors: Doors, name: str, request: Any) -> bool:
        """Whether the call itself changed a row: what was accepted before it may still be at work (a purge, a seal).

        With everything there anew and the server at rest, a call that writes before it is refused writes again.
        """
        for _ in range(2):
            self.begin()
            self._loop.run(wait_for_async(self._is_at_rest, what="a server at rest"))
            before = self._digest()
            self._loop.run(self._ask(doors, name, request))
            if self._digest() == before:
                return False
        return True

    async def _is_at_rest(self) -> bool:
        looks = [self._digest()]
        await wait_for_async(lambda: self._look(looks), what="some looks at the database")
        return len(set(looks)) == 1

    async def _look(self, looks: list[str]) -> bool:
        looks.append(self._digest())
        return len(looks) > LOOKS

    def _found(self, name: str, request: Any, what: str) -> None:
        self.tally.violations.append(f"{name} {what}\n{str(request)[:2000]}")

    async def _ask(self, doors: Doors, name: str, request: Any) -> tuple[grpc.StatusCode, str]:
        method = METHODS[name]
        path = f"/{method.containing_service.full_name}/{method.name}"
        words = {
            "request_serializer": type(request).SerializeToString,
            "response_deserializer": message_factory.GetMessageClass(method.output_type).FromString,
        }
        waits = name in WAITS or method.server_streaming
        try:
            if method.server_streaming:
                stream = doors.channel.unary_stream(path, **words)(request, timeout=WAIT_S)
                await stream.read()
                stream.cancel()
            else:
                await doors.channel.unary_unary(path, **words)(request, timeout=WAIT_S if waits else PATIENCE_S)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        return C.OK, ""

    def _columns(self) -> dict[str, str]:
        """The columns that count, of each table."""
        names = [name for (name,) in self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {}
        for table in sorted(set(names) - BESIDES):
            columns = [row[1] for row in self._connection.execute(f"PRAGMA table_info({table})")]
            found[table] = ", ".join(name for name in columns if name not in UNWATCHED.get(table, set()))
        return found

    def _digest(self) -> str:
        """Of every row of every table that a refusal must not change."""
        total = hashlib.sha256()
        for table, columns in self._tables.items():
            for row in self._connection.execute(f"SELECT {columns} FROM {table} ORDER BY rowid"):
                total.update(repr(row).encode())
        return total.hexdigest()
