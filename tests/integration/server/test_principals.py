"""Principals change over the wire: at once, also for calls that are open."""

from __future__ import annotations

import grpc
import pytest
from banksman.v1 import access_pb2, project_pb2, run_pb2, system_pb2
from google.protobuf.field_mask_pb2 import FieldMask

BO = access_pb2.Principal(name="bo")


@pytest.fixture
async def bo(server, doors):
    """The doors of a user who may use the default project."""
    kind = access_pb2.PRINCIPAL_KIND_USER
    principal = access_pb2.Principal(kind=kind, name="bo", project_ids=["default"])
    await doors.access.CreatePrincipal(access_pb2.CreatePrincipalRequest(principal=principal))
    return server.doors((await doors.access.CreateToken(access_pb2.CreateTokenRequest(principal="bo"))).secret)


async def test_a_disabled_principal_loses_its_open_calls_and_its_way_in(doors, bo):
    run = await bo.submit()
    watch = bo.runs.WatchRuns(run_pb2.WatchRunsRequest(run=run.id))
    await watch.read()
    off = await doors.access.UpdatePrincipal(access_pb2.UpdatePrincipalRequest(principal=BO, disabled=True))
    assert off.HasField("disabled_at")
    for call in (watch.read(), bo.system.GetServerInfo(system_pb2.GetServerInfoRequest())):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert (await doors.run(run.id)).state == run_pb2.RUN_STATE_QUEUED
    on = await doors.access.UpdatePrincipal(access_pb2.UpdatePrincipalRequest(principal=BO, disabled=False))
    assert not on.HasField("disabled_at")
    assert (await bo.access.WhoAmI(access_pb2.WhoAmIRequest())).name == "bo"


async def test_only_what_the_mask_names_is_written(doors, bo):
    await doors.projects.CreateProject(project_pb2.CreateProjectRequest(project=project_pb2.Project(name="web")))
    wanted = access_pb2.Principal(name="bo", admin=True, project_ids=["web"])
    mask = FieldMask(paths=["project_ids"])
    moved = await doors.access.UpdatePrincipal(
        access_pb2.UpdatePrincipalRequest(principal=wanted, update_mask=mask, new_name="bob")
    )
    assert (moved.name, moved.admin, len(moved.project_ids)) == ("bob", False, 1)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await bo.submit()
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    bad = access_pb2.UpdatePrincipalRequest(
        principal=access_pb2.Principal(name="bob"), update_mask=FieldMask(paths=["kind"])
    )
    with pytest.raises(grpc.aio.AioRpcError) as wrong:
        await doors.access.UpdatePrincipal(bad)
    assert wrong.value.code() is grpc.StatusCode.INVALID_ARGUMENT
