"""RunnerService."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from banksman.v1 import runner_pb2, runner_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from control_plane.api.desk import Desk
from control_plane.api.interceptors import Context
from control_plane.api.mapping import seconds
from control_plane.api.pages import page_answer, page_request
from control_plane.api.records import JOIN_TOKEN, RUNNER
from control_plane.auth.tokens import ENTROPY_BYTES, TokenKind, digest, mint
from control_plane.dispatch.sessions import REVOKED
from control_plane.domain.ids import JoinTokenId
from control_plane.domain.runner import Runner
from control_plane.domain.session import Drain, Resume
from control_plane.lifecycle import losses, runners
from control_plane.storage import reads


class RunnerServicer(runner_pb2_grpc.RunnerServiceServicer):
    """Runners as an operator sees them."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def GetRunner(self, request: runner_pb2.GetRunnerRequest, context: Context) -> runner_pb2.Runner:
        runner = await self._find(request.runner)
        held = await self._desk.read(partial(reads.runner_attempts, runner_id=runner.id))
        return self._shown(self._desk.sightings.of(runner, held))

    async def ListRunners(
        self, request: runner_pb2.ListRunnersRequest, context: Context
    ) -> runner_pb2.ListRunnersResponse:
        query = partial(reads.list_runners, request=page_request(request), include_revoked=request.include_revoked)
        return page_answer(runner_pb2.ListRunnersResponse, "runners", await self._desk.read(query), self._shown)

    async def DrainRunner(self, request: runner_pb2.DrainRunnerRequest, context: Context) -> runner_pb2.Runner:
        runner = await runners.drain(self._desk.house, (await self._find(request.runner)).id)
        self._desk.sessions.post(runner.id, Drain())
        return self._shown(runner)

    async def ResumeRunner(self, request: runner_pb2.ResumeRunnerRequest, context: Context) -> runner_pb2.Runner:
        runner = await runners.resume(self._desk.house, (await self._find(request.runner)).id)
        self._desk.sessions.post(runner.id, Resume())
        return self._shown(runner)

    async def RevokeRunner(self, request: runner_pb2.RevokeRunnerRequest, context: Context) -> runner_pb2.Runner:
        runner = await runners.revoke(self._desk.house, (await self._find(request.runner)).id)
        self._desk.sessions.end(runner.id, REVOKED)
        return self._shown(runner)

    async def MarkRunnerLost(
        self, request: runner_pb2.MarkRunnerLostRequest, context: Context
    ) -> runner_pb2.MarkRunnerLostResponse:
        house, runner_id = self._desk.house, (await self._find(request.runner)).id
        order = losses.MarkLost(note=request.note, host_is_dead=request.host_is_dead, force=request.force)
        marked = await losses.mark_runner_lost(house, self._desk.caller(), runner_id, order)
        sealed = await self._desk.reception.seal_all(runner_id) if order.host_is_dead else 0
        return runner_pb2.MarkRunnerLostResponse(
            runner=self._shown(await self._find(runner_id)),
            lost_run_ids=marked.lost,
            queued_run_ids=marked.queued,
            cancelled_run_ids=marked.cancelled,
            sealed_logs=sealed,
        )

    async def CreateJoinToken(
        self, request: runner_pb2.CreateJoinTokenRequest, context: Context
    ) -> runner_pb2.CreateJoinTokenResponse:
        secret = mint(TokenKind.JOIN, self._desk.house.clock.token_bytes(ENTROPY_BYTES))
        new = runners.NewJoinToken(
            secret_digest=digest(secret),
            pool=request.pool,
            granted_labels=dict(request.granted_labels),
            allowed_projects=tuple(request.allowed_projects),
            lifetime_s=seconds(request.lifetime) if request.HasField("lifetime") else None,
        )
        token = await runners.create_join_token(self._desk.house, self._desk.caller(), new)
        return runner_pb2.CreateJoinTokenResponse(join_token=JOIN_TOKEN.encode(token), secret=secret)

    async def ListJoinTokens(
        self, request: runner_pb2.ListJoinTokensRequest, context: Context
    ) -> runner_pb2.ListJoinTokensResponse:
        page = await self._desk.read(partial(reads.list_join_tokens, request=page_request(request)))
        return page_answer(runner_pb2.ListJoinTokensResponse, "join_tokens", page, JOIN_TOKEN.encode)

    async def DeleteJoinToken(self, request: runner_pb2.DeleteJoinTokenRequest, context: Context) -> Empty:
        await runners.delete_join_token(self._desk.house, JoinTokenId(request.join_token))
        return Empty()

    async def _find(self, id_or_name: str) -> Runner:
        return await self._desk.read(partial(reads.the_runner, id_or_name=id_or_name))

    def _shown(self, runner: Runner) -> runner_pb2.Runner:
        """With what the agent itself says; which runs it holds is not for people who may not see all projects."""
        session = self._desk.sessions.get(runner.id)
        if session is not None:
            since = session.opened_at if runner.connected else None
            runner = replace(runner, connected_since=since, draining=runner.draining or session.draining)
        if not self._desk.caller().principal.admin:
            runner = replace(runner, held_run_ids=(), attempts=(), unknown_run_ids=(), clone_alarms=())
        return RUNNER.encode(runner)
