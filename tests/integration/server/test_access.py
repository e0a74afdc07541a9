"""Who may call what, on every method of the contract, with real tokens and a real runner's credential."""

from __future__ import annotations

import importlib
import pkgutil

import banksman.v1
import grpc
import pytest
from banksman.v1 import access_pb2, log_pb2, project_pb2, run_pb2, runner_pb2, task_pb2
from google.protobuf import message_factory
from google.protobuf.duration_pb2 import Duration

from tests.fakes.server import Server, spec

UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
OPEN = {"RunnerSessionService/Enroll", "RunnerSessionService/RenewCredential"}
STREAM = "RunnerSessionService/Session"
UPLOAD = "RunnerSessionService/UploadArtifact"


def methods():
    """Every method of the contract, from its descriptors."""
    for module in pkgutil.iter_modules(banksman.v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"banksman.v1.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                yield from service.methods


async def call(channel, method, token):
    """The status of an empty request."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    request = message_factory.GetMessageClass(method.input_type)
    answer = message_factory.GetMessageClass(method.output_type)
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    words = {"request_serializer": request.SerializeToString, "response_deserializer": answer.FromString}
    try:
        if method.server_streaming:
            if method.client_streaming:
                stream = channel.stream_stream(path, **words)(metadata=metadata, timeout=5)
                await stream.done_writing()
            else:
                stream = channel.unary_stream(path, **words)(request(), metadata=metadata, timeout=5)
            await stream.read()
            stream.cancel()
        else:
            await channel.unary_unary(path, **words)(request(), metadata=metadata, timeout=5)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def member(doors, name, *projects, admin=False):
    """The token of a new user."""
    principal = access_pb2.Principal(kind=access_pb2.PRINCIPAL_KIND_USER, name=name, project_ids=projects, admin=admin)
    await doors.access.CreatePrincipal(access_pb2.CreatePrincipalRequest(principal=principal))
    made = await doors.access.CreateToken(access_pb2.CreateTokenRequest(principal=name))
    return made.secret


async def test_without_a_token_nothing_answers(server):
    channel = server.doors(None).channel
    for method in methods():
        name = f"{method.containing_service.name}/{method.name}"
        status = await call(channel, method, None)
        # These two carry a proof of their own; an empty request proves nothing.
        wanted = {UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT} if name in OPEN else {UNAUTHENTICATED}
        assert status in wanted, name


@pytest.mark.parametrize("token", ["", "x", "bnk_user_", "bnk_user_" + "a" * 36, "y" * 7000, "bnk_cred_a.b"])
async def test_junk_is_no_token(server, token):
    channel = server.doors(None).channel
    for method in methods():
        name = f"{method.containing_service.name}/{method.name}"
        if name not in OPEN:
            assert await call(channel, method, token) is UNAUTHENTICATED, name


async def test_a_runner_may_only_open_its_session(server):
    runner = await server.runner()
    channel = server.doors(None).channel
    for method in methods():
        name = f"{method.containing_service.name}/{method.name}"
        if name not in OPEN | {STREAM, UPLOAD}:
            assert await call(channel, method, runner.credential) is DENIED, name


async def test_a_person_cannot_open_a_session(server, doors):
    token = await member(doors, "eve")
    channel = server.doors(None).channel
    (session,) = (method for method in methods() if method.name == "Session")
    assert await call(channel, session, token) is DENIED
    assert await call(channel, session, server.admin["token"]) is DENIED


async def test_what_is_for_admins_is_denied_to_others(server, doors):
    token = await member(doors, "eve", "default")
    channel = server.doors(None).channel
    denied = {
        f"{method.containing_service.name}/{method.name}"
        for method in methods()
        if await call(channel, method, token) is DENIED
    }
    assert denied == {
        STREAM,
        UPLOAD,
        "AccessService/CreatePrincipal",
        "AccessService/ListPrincipals",
        "AccessService/UpdatePrincipal",
        "AuditService/ExportAudit",
        "AuditService/ListAuditEvents",
        "AuditService/VerifyAudit",
        "ProjectService/CreateProject",
        "ProjectService/DeleteProject",
        "ProjectService/UpdateProject",
        "RunnerService/CreateJoinToken",
        "RunnerService/DeleteJoinToken",
        "RunnerService/DrainRunner",
        "RunnerService/ListJoinTokens",
        "RunnerService/MarkRunnerLost",
        "RunnerService/ResumeRunner",
        "RunnerService/RevokeRunner",
        "SystemService/CollectGarbage",
    }


async def test_two_authorization_headers_are_none(server, doors):
    metadata = (("authorization", f"Bearer {server.admin['token']}"),) * 2
    channel = server.doors(None).channel
    stub = type(doors.access)(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.WhoAmI(access_pb2.WhoAmIRequest(), metadata=metadata)
    assert caught.value.code() is UNAUTHENTICATED


async def test_the_project_of_others_is_not_there(server, doors):
    await doors.projects.CreateProject(project_pb2.CreateProjectRequest(project=project_pb2.Project(name="team")))
    theirs = await doors.submit(project="team")
    mine = server.doors(await member(doors, "eve", "default"))
    task = task_pb2.Task(name="t", spec=spec("true"))
    await doors.tasks.CreateTask(task_pb2.CreateTaskRequest(project="team", task=task))
    calls = [
        mine.projects.GetProject(project_pb2.GetProjectRequest(project="team")),
        mine.tasks.GetTask(task_pb2.GetTaskRequest(project="team", task="t")),
        mine.tasks.RunTask(task_pb2.RunTaskRequest(project="team", task="t")),
        mine.submit(project="team"),
        mine.run(theirs.id),
        mine.run(theirs.id[-8:]),
        mine.runs.GetRun(run_pb2.GetRunRequest(run=theirs.id, project="team")),
        mine.runs.CancelRun(run_pb2.CancelRunRequest(run=theirs.id)),
        mine.runs.ListRuns(run_pb2.ListRunsRequest(project="team")),
        mine.log(theirs.id),
    ]
    for asked in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asked
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    listed = await mine.projects.ListProjects(project_pb2.ListProjectsRequest())
    assert [project.name for project in listed.projects] == ["default"]
    assert (await doors.run(theirs.id)).state == run_pb2.RUN_STATE_QUEUED


async def said(asked, name):
    """The whole answer of a call that fails, without the name that was asked for."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asked
    details = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
    return caught.value.details().replace(name, "X"), details.replace(name.encode(), b"X" * len(name))


async def test_what_is_hidden_looks_like_what_is_not_there(server, doors):
    await doors.projects.CreateProject(project_pb2.CreateProjectRequest(project=project_pb2.Project(name="team")))
    theirs = (await doors.submit(project="team")).id
    mine = server.doors(await member(doors, "eve", "default"))
    for hidden, missing, ask in (
        ("team", "maet", lambda name: mine.projects.GetProject(project_pb2.GetProjectRequest(project=name))),
        (theirs, theirs[:-4] + "aaaa", mine.run),
    ):
        one, other = await said(ask(hidden), hidden), await said(ask(missing), missing)
        assert one[0] == other[0]
        assert one[1].replace(b"X" * len(hidden), b"") == other[1].replace(b"X" * len(missing), b"")


async def test_who_may_not_use_the_default_project_is_told_to_name_one(server, doors):
    await doors.projects.CreateProject(project_pb2.CreateProjectRequest(project=project_pb2.Project(name="team")))
    mine = server.doors(await member(doors, "eve", "team"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await mine.submit()
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "you may not use 'default'" in caught.value.details()


async def test_a_revoked_token_is_refused_at_once(server, doors):
    token = await member(doors, "eve", "default")
    mine = server.doors(token)
    assert (await mine.access.WhoAmI(access_pb2.WhoAmIRequest())).name == "eve"
    (listed,) = (await mine.access.ListTokens(access_pb2.ListTokensRequest())).tokens
    await doors.access.RevokeToken(access_pb2.RevokeTokenRequest(token=listed.id))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await mine.access.WhoAmI(access_pb2.WhoAmIRequest())
    assert caught.value.code() is UNAUTHENTICATED


async def test_a_revoked_token_ends_what_it_has_open(server, doors):
    run = await doors.submit()
    mine = server.doors(await member(doors, "eve", "default"))
    mine_too = await mine.access.CreateToken(access_pb2.CreateTokenRequest())
    others = server.doors(mine_too.secret).runs.WatchRuns(run_pb2.WatchRunsRequest(run=run.id))
    watch = mine.runs.WatchRuns(run_pb2.WatchRunsRequest(run=run.id))
    follower = mine.logs.ReadLogs(log_pb2.ReadLogsRequest(run=run.id, follow=True))
    wait = mine.runs.WaitRun(run_pb2.WaitRunRequest(run=run.id))
    await others.read()
    await watch.read()
    # This watch is answered behind the calls above, so they are all being served.
    await mine.runs.WatchRuns(run_pb2.WatchRunsRequest(run=run.id)).read()
    listed = (await mine.access.ListTokens(access_pb2.ListTokensRequest())).tokens
    (first,) = (token for token in listed if token.id != mine_too.token.id)
    await doors.access.RevokeToken(access_pb2.RevokeTokenRequest(token=first.id))
    for asked in (watch.read(), follower.read(), wait):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asked
        assert caught.value.code() is UNAUTHENTICATED
    await doors.runs.CancelRun(run_pb2.CancelRunRequest(run=run.id))
    assert (await others.read()).run.id == run.id


async def test_a_caller_has_so_many_open_calls_and_no_more(tmp_path):
    server = Server(tmp_path / "state", max_streams_each=2)
    await server.start()
    doors = server.doors()
    open_calls = [doors.runs.WatchRuns(run_pb2.WatchRunsRequest()) for _ in range(2)]
    await doors.submit()
    for watch in open_calls:
        await watch.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await doors.runs.WatchRuns(run_pb2.WatchRunsRequest()).read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "2 calls" in caught.value.details()
    await server.doors(await member(doors, "eve", "default")).runs.WatchRuns(run_pb2.WatchRunsRequest()).read()
    await server.close()


async def test_tokens_of_others_are_out_of_reach(server, doors):
    mine = server.doors(await member(doors, "eve", "default"))
    (admins,) = (await doors.access.ListTokens(access_pb2.ListTokensRequest())).tokens
    for asked, status in (
        (mine.access.RevokeToken(access_pb2.RevokeTokenRequest(token=admins.id)), grpc.StatusCode.NOT_FOUND),
        (mine.access.CreateToken(access_pb2.CreateTokenRequest(principal="admin")), DENIED),
        (mine.access.ListTokens(access_pb2.ListTokensRequest(principal="admin")), DENIED),
        (mine.access.ListTokens(access_pb2.ListTokensRequest(principal="*")), DENIED),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asked
        assert caught.value.code() is status
    everybody = await doors.access.ListTokens(access_pb2.ListTokensRequest(principal="*"))
    assert len(everybody.tokens) == 2


async def test_a_token_secret_is_shown_once(doors):
    request = access_pb2.CreateTokenRequest(note="ci", request_id="r1", lifetime=Duration(seconds=3600))
    first, again = await doors.access.CreateToken(request), await doors.access.CreateToken(request)
    assert first.secret.startswith("bnk_user_")
    assert (again.secret, again.token.id) == ("", first.token.id)


async def test_the_last_admin_token_stays(doors):
    (mine,) = (await doors.access.ListTokens(access_pb2.ListTokensRequest())).tokens
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await doors.access.RevokeToken(access_pb2.RevokeTokenRequest(token=mine.id))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_held_runs_are_shown_to_admins_only(server, doors):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        await doors.submit()
        await stream.accept()
        mine = server.doors(await member(doors, "eve", "default"))
        request = runner_pb2.GetRunnerRequest(runner="host-1")
        assert len((await doors.runners.GetRunner(request)).held_run_ids) == 1
        assert len((await mine.runners.GetRunner(request)).held_run_ids) == 0
