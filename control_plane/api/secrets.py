"""SecretService. Values go in and never come out."""

from __future__ import annotations

from functools import partial

from banksman.v1 import secret_pb2, secret_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from control_plane.api.desk import Desk
from control_plane.api.interceptors import Context
from control_plane.api.pages import page_answer, page_request
from control_plane.api.records import SECRET
from control_plane.lifecycle import secrets
from control_plane.storage import reads


class SecretServicer(secret_pb2_grpc.SecretServiceServicer):
    """Secrets of projects."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def SetSecret(self, request: secret_pb2.SetSecretRequest, context: Context) -> secret_pb2.Secret:
        project = await self._desk.project(request.project)
        new = secrets.NewValue(project_id=project.id, name=request.name, value=request.value)
        return SECRET.encode(await secrets.put(self._desk.house, self._desk.caller(), new))

    async def ListSecrets(
        self, request: secret_pb2.ListSecretsRequest, context: Context
    ) -> secret_pb2.ListSecretsResponse:
        project = await self._desk.project(request.project)
        query = partial(reads.list_secrets, project_id=project.id, request=page_request(request))
        return page_answer(secret_pb2.ListSecretsResponse, "secrets", await self._desk.read(query), SECRET.encode)

    async def DeleteSecret(self, request: secret_pb2.DeleteSecretRequest, context: Context) -> Empty:
        project = await self._desk.project(request.project)
        await secrets.delete(self._desk.house, self._desk.caller(), project.id, request.name, force=request.force)
        return Empty()
