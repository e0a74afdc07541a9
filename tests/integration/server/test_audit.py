"""The audit trail of a real server: what leaves an entry, what an entry says, and that nothing in it is secret."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3

import grpc
import pytest
from banksman.v1 import (
    access_pb2,
    audit_pb2,
    audit_pb2_grpc,
    run_pb2,
    runner_pb2,
    secret_pb2,
    spec_pb2,
    task_pb2,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Value

from tests.fakes.server import Doors, Server, spec
from tests.integration.server.test_access import member


def stub(doors: Doors):
    return audit_pb2_grpc.AuditServiceStub(doors.channel)


async def entries(server: Server, text: str = ""):
    """Oldest first."""
    found = await stub(server.doors()).ListAuditEvents(audit_pb2.ListAuditEventsRequest(filter=text, page_size=1000))
    return list(found.events)[::-1]


async def export(server: Server, after_seq: int = 0) -> list[dict]:
    stream = stub(server.doors()).ExportAudit(audit_pb2.ExportAuditRequest(after_seq=after_seq))
    lines = b"".join([part.lines async for part in stream])
    return [json.loads(line) for line in lines.splitlines()]


async def refused(call) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


def kinds(event) -> set[str]:
    return {resource.partition("/")[0] for resource in event.resources}


async def test_a_deed_says_who_what_on_what_when_from_where_and_under_which_request_id(server, doors):
    task = task_pb2.Task(name="build", spec=spec("true"))
    made = await doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=task, request_id="r-1"))
    run = await doors.tasks.RunTask(task_pb2.RunTaskRequest(task="build"))
    await doors.runs.CancelRun(run_pb2.CancelRunRequest(run=run.id[-8:]))
    await doors.tasks.DeleteTask(task_pb2.DeleteTaskRequest(task="build"))
    created, started, cancelled, deleted = await entries(server, 'method = "TaskService/*" OR method = "RunService/*"')
    me = await doors.access.WhoAmI(access_pb2.WhoAmIRequest())
    for event in (created, started, cancelled, deleted):
        assert (event.principal_id, event.principal, event.peer, event.code) == (me.id, me.name, "127.0.0.1", "OK")
        assert event.at.ToSeconds() > 0
    assert (created.method, created.request_id) == ("TaskService/CreateTask", "r-1")
    assert f"task/{made.id}" in created.resources
    assert {f"run/{run.id}", f"task/{made.id}"} <= set(started.resources)
    assert f"run/{run.id}" in cancelled.resources
    assert f"task/{made.id}" in deleted.resources


async def test_every_kind_of_deed_leaves_an_entry_in_its_own_transaction(server, doors):
    await doors.secrets.SetSecret(secret_pb2.SetSecretRequest(name="KEY", value=b"sentinel-1"))
    await doors.secrets.DeleteSecret(secret_pb2.DeleteSecretRequest(name="KEY"))
    made = await doors.runners.CreateJoinToken(runner_pb2.CreateJoinTokenRequest())
    await doors.runners.DeleteJoinToken(runner_pb2.DeleteJoinTokenRequest(join_token=made.join_token.id))
    await member(doors, "eve", "default")
    runner = await server.runner("host-9")
    await doors.runners.DrainRunner(runner_pb2.DrainRunnerRequest(runner="host-9"))
    await doors.runners.RevokeRunner(runner_pb2.RevokeRunnerRequest(runner="host-9"))
    said = [(event.method.partition("/")[2], kinds(event)) for event in await entries(server)]
    assert said == [
        ("SetSecret", {"project", "secret"}),
        ("DeleteSecret", {"project", "secret"}),
        ("CreateJoinToken", {"join_token"}),
        ("DeleteJoinToken", {"join_token"}),
        ("CreatePrincipal", {"principal"}),
        ("CreateToken", {"principal", "token"}),
        ("CreateJoinToken", {"join_token"}),
        ("Enroll", {"runner"}),
        ("DrainRunner", {"runner"}),
        ("RevokeRunner", {"runner"}),
    ]
    (enrolled,) = await entries(server, 'method = "RunnerSessionService/Enroll"')
    assert (enrolled.principal_id, enrolled.principal) == (runner.runner_id, "host-9")


async def test_reads_and_refused_deeds_of_an_admin_leave_nothing(server, doors):
    await doors.submit()
    before = len(await entries(server))
    await doors.runs.ListRuns(run_pb2.ListRunsRequest())
    assert await refused(doors.submit(*["x"] * 3, project="nowhere")) is grpc.StatusCode.NOT_FOUND
    assert await refused(doors.submit("")) is grpc.StatusCode.INVALID_ARGUMENT
    assert len(await entries(server)) == before


async def test_what_is_denied_to_a_known_principal_is_entered_at_the_latest_by_a_clean_stop(server, doors):
    token = await member(doors, "eve", "default")
    theirs = await doors.tasks.CreateTask(
        task_pb2.CreateTaskRequest(task=task_pb2.Task(name="mine", spec=spec("true")))
    )
    eve = server.doors(token)
    for _ in range(3):
        assert await refused(eve.runners.DrainRunner(runner_pb2.DrainRunnerRequest(runner="host-1")))
    assert await refused(eve.tasks.GetTask(task_pb2.GetTaskRequest(task=theirs.id)))
    assert await refused(stub(eve).ListAuditEvents(audit_pb2.ListAuditEventsRequest()))
    (known,) = (await doors.access.ListTokens(access_pb2.ListTokensRequest(principal="eve"))).tokens
    await doors.access.RevokeToken(access_pb2.RevokeTokenRequest(token=known.id))
    assert await refused(eve.access.WhoAmI(access_pb2.WhoAmIRequest()))
    await server.stop()
    await server.start()
    found = await entries(server, "principal = eve")
    said = {(event.method, event.code): [] for event in found}
    for event in found:
        said[event.method, event.code].append(event)
    drains = said["RunnerService/DrainRunner", "NOT_ADMIN"]
    assert sum(event.count for event in drains) == 3
    assert list(drains[0].resources) == ["runner/host-1"]
    (got,) = said["TaskService/GetTask", "TASK_NOT_FOUND"]
    assert f"task/{theirs.id}" in got.resources
    assert ("AuditService/ListAuditEvents", "NOT_ADMIN") in said
    assert ("AccessService/WhoAmI", "TOKEN_REVOKED") in said


async def test_callers_that_nobody_knows_are_counted_per_minute_and_address(server, doors):
    nobody = server.doors("bnk_user_" + "a" * 36)
    for _ in range(5):
        assert await refused(nobody.access.WhoAmI(access_pb2.WhoAmIRequest()))
    assert await refused(server.doors(None).access.WhoAmI(access_pb2.WhoAmIRequest()))
    await server.stop()
    await server.start()
    found = await entries(server, 'principal = ""')
    counted = {event.code: (event.count, event.peer, event.method) for event in found}
    assert counted == {"TOKEN_INVALID": (5, "127.0.0.1", ""), "TOKEN_MISSING": (1, "127.0.0.1", "")}


async def test_no_secret_is_in_it(server, doors):
    sentinel = "s3ntinel-" + "x" * 20
    await doors.secrets.SetSecret(secret_pb2.SetSecretRequest(name="KEY", value=sentinel.encode()))
    env = [spec_pb2.EnvVar(name="A", value=sentinel)]
    variables = [task_pb2.Variable(name="v", sensitive=True)]
    task = task_pb2.Task(name="build", spec=spec("echo", sentinel, env=env), variables=variables)
    await doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=task))
    options = run_pb2.RunOptions(variables={"v": Value(string_value=sentinel)}, trigger_metadata={"k": sentinel})
    await doors.tasks.RunTask(task_pb2.RunTaskRequest(task="build", options=options))
    join = await doors.runners.CreateJoinToken(runner_pb2.CreateJoinTokenRequest())
    token = await member(doors, "eve")
    eve = server.doors(token)
    assert await refused(eve.runs.GetRun(run_pb2.GetRunRequest(run=token)))
    assert await refused(eve.access.RevokeToken(access_pb2.RevokeTokenRequest(token=token.split("_")[-1])))
    assert await refused(eve.runners.DeleteJoinToken(runner_pb2.DeleteJoinTokenRequest(join_token=join.secret)))
    await server.runner()
    await server.stop()
    rows = sqlite3.connect(server.state / "banksman.db").execute("SELECT * FROM audit_events").fetchall()
    text = repr(rows)
    assert len(rows) > 8
    for secret in (sentinel, token, token.split("_")[-1], join.secret, join.secret.split("_")[-1]):
        assert secret not in text, text


async def test_filters_and_pages(server, doors):
    runs = [await doors.submit(request_id=f"r{number}") for number in range(5)]
    for text, count in (
        ('request = "r3"', 1),
        (f'resource = "run/{runs[2].id}"', 1),
        (f'resource : "{runs[2].id}"', 1),
        ('method = "RunService/*"', 5),
        ("code = OK AND peer = 127.0.0.1", 5),
        ('at > "2020-01-01T00:00:00Z"', 5),
        ('at < "2020-01-01T00:00:00Z"', 0),
        ("principal = admin", 5),
        ("NOT principal = admin", 0),
    ):
        assert len(await entries(server, text)) == count, text
    seen, token = [], ""
    while True:
        page = await stub(doors).ListAuditEvents(audit_pb2.ListAuditEventsRequest(page_size=2, page_token=token))
        seen += [event.seq for event in page.events]
        token = page.next_page_token
        if not token:
            break
    assert seen == [5, 4, 3, 2, 1]
    bad = audit_pb2.ListAuditEventsRequest(filter="colour = red")
    assert await refused(stub(doors).ListAuditEvents(bad)) is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_renewed_credential_is_entered(server, doors):
    runner = await server.runner()
    nonce = os.urandom(16)
    renewal = runner.renewal(int(server.clock.now().timestamp()), nonce)
    await runner.stub.RenewCredential(renewal)
    await server.stop()
    await server.start()
    (renewed,) = await entries(server, 'method = "RunnerSessionService/RenewCredential"')
    assert (renewed.principal_id, list(renewed.resources)) == (runner.runner_id, [f"runner/{runner.runner_id}"])


async def test_an_entry_costs_no_transaction_of_its_own(server, doors):
    path = server.state / "banksman.db"
    await doors.submit()
    with sqlite3.connect(path) as connection:
        (count,) = connection.execute("SELECT count(*) FROM audit_events").fetchone()
    assert count == 1


async def test_an_export_goes_on_behind_another(server, doors):
    for _ in range(3):
        await doors.submit()
    first = await export(server)
    assert [line["kind"] for line in first] == ["start", "event", "event", "event", "head"]
    assert first[0]["seq"] == 0
    head = first[-1]
    assert head["seq"] == 3
    await doors.submit()
    second = await export(server, after_seq=3)
    assert (second[0]["seq"], second[0]["hash"]) == (3, head["hash"])
    # The first export is in the second one.
    assert [line.get("method", "") for line in second[1:-1]] == ["AuditService/ExportAudit", "RunService/CreateRun"]
    late = audit_pb2.ExportAuditRequest(after_seq=1000)
    assert await refused(stub(doors).ExportAudit(late).read()) is grpc.StatusCode.OUT_OF_RANGE
    negative = audit_pb2.ExportAuditRequest(after_seq=-1)
    assert await refused(stub(doors).ExportAudit(negative).read()) is grpc.StatusCode.INVALID_ARGUMENT


async def test_many_at_once_make_one_chain(server, doors):

    await asyncio.gather(*(doors.submit() for _ in range(40)))
    found = await stub(doors).VerifyAudit(audit_pb2.VerifyAuditRequest())
    assert (found.intact, found.checked, found.head.seq) == (True, 40, 40)


async def test_a_lifetime_that_is_refused_changes_nothing(server, doors):
    short = access_pb2.CreateTokenRequest(lifetime=Duration(seconds=1))
    assert await refused(doors.access.CreateToken(short)) is grpc.StatusCode.INVALID_ARGUMENT
    assert await entries(server) == []
