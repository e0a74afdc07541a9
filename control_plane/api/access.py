"""AccessService: principals and their tokens."""

from __future__ import annotations

from functools import partial

from banksman.v1 import access_pb2, access_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from control_plane.api.convert import decoded
from control_plane.api.desk import Desk
from control_plane.api.interceptors import Context
from control_plane.api.mapping import seconds
from control_plane.api.masks import wanted_fields
from control_plane.api.pages import page_answer, page_request
from control_plane.api.records import NEW_PRINCIPAL, PRINCIPAL, TOKEN
from control_plane.auth.tokens import ENTROPY_BYTES, TokenKind, digest, mint
from control_plane.domain.errors import ErrorCode, NotFound, PermissionDenied
from control_plane.domain.ids import PrincipalId, TokenId
from control_plane.domain.principal import Principal, PrincipalKind
from control_plane.lifecycle import principals, tokens
from control_plane.storage import reads

EVERYBODY = "*"
WRITABLE = ("admin", "project_ids")


class AccessServicer(access_pb2_grpc.AccessServiceServicer):
    """Who calls."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreatePrincipal(
        self, request: access_pb2.CreatePrincipalRequest, context: Context
    ) -> access_pb2.Principal:
        asked = decoded(NEW_PRINCIPAL, request.principal, "principal")
        new = principals.NewPrincipal(kind=asked.kind, name=asked.name, admin=asked.admin, projects=asked.project_ids)
        made = await principals.create(self._desk.house, self._desk.caller(request.request_id), new)
        return PRINCIPAL.encode(made)

    async def UpdatePrincipal(
        self, request: access_pb2.UpdatePrincipalRequest, context: Context
    ) -> access_pb2.Principal:
        known = await self._desk.read(
            partial(reads.the_principal, id_or_name=request.principal.id or request.principal.name)
        )
        updated = await principals.update(self._desk.house, known.id, _change(request))
        self._desk.authenticator.forget()
        return PRINCIPAL.encode(updated)

    async def ListPrincipals(
        self, request: access_pb2.ListPrincipalsRequest, context: Context
    ) -> access_pb2.ListPrincipalsResponse:
        page = await self._desk.read(partial(reads.list_principals, request=page_request(request)))
        return page_answer(access_pb2.ListPrincipalsResponse, "principals", page, PRINCIPAL.encode)

    async def CreateToken(
        self, request: access_pb2.CreateTokenRequest, context: Context
    ) -> access_pb2.CreateTokenResponse:
        owner = await self._owner(request.principal)
        secret = self._mint(owner)
        lifetime_s = seconds(request.lifetime) if request.HasField("lifetime") else None
        new = tokens.NewToken(
            principal=owner.id, note=request.note, lifetime_s=lifetime_s, secret_digest=digest(secret)
        )
        token = await tokens.create(self._desk.house, self._desk.caller(request.request_id), new)
        shown = secret if token.secret_digest == new.secret_digest else ""
        return access_pb2.CreateTokenResponse(token=TOKEN.encode(token), secret=shown)

    async def ListTokens(
        self, request: access_pb2.ListTokensRequest, context: Context
    ) -> access_pb2.ListTokensResponse:
        owner_id = await self._listed(request.principal)
        query = partial(reads.list_tokens, request=page_request(request), principal_id=owner_id)
        return page_answer(access_pb2.ListTokensResponse, "tokens", await self._desk.read(query), TOKEN.encode)

    async def RevokeToken(self, request: access_pb2.RevokeTokenRequest, context: Context) -> Empty:
        token = await self._desk.read(partial(reads.token, token_id=TokenId(request.token)))
        principal = self._desk.caller().principal
        if token is None or not (principal.admin or token.principal_id == principal.id):
            raise NotFound(ErrorCode.TOKEN_NOT_FOUND)
        await tokens.revoke(self._desk.house, token.id)
        self._desk.authenticator.forget()
        return Empty()

    async def WhoAmI(self, request: access_pb2.WhoAmIRequest, context: Context) -> access_pb2.Principal:
        return PRINCIPAL.encode(self._desk.caller().principal)

    def _mint(self, owner: Principal) -> str:
        kind = TokenKind.SERVICE if owner.kind is PrincipalKind.SERVICE else TokenKind.USER
        return mint(kind, self._desk.house.clock.token_bytes(ENTROPY_BYTES))

    async def _owner(self, id_or_name: str) -> Principal:
        """Whose token: the caller's own, or for an admin anybody's. Raises PermissionDenied, NotFound."""
        me = self._desk.caller().principal
        if id_or_name in ("", me.id, me.name):
            return me
        if not me.admin:
            raise PermissionDenied(ErrorCode.NOT_ADMIN)
        return await self._desk.read(partial(reads.the_principal, id_or_name=id_or_name))

    async def _listed(self, id_or_name: str) -> PrincipalId | None:
        """Whose tokens to list; None: everybody's."""
        if id_or_name == EVERYBODY and self._desk.caller().principal.admin:
            return None
        return (await self._owner(id_or_name)).id


def _change(request: access_pb2.UpdatePrincipalRequest) -> principals.PrincipalChange:
    """Without a mask neither role nor projects change: nobody loses them by leaving a field out."""
    paths, asked = request.update_mask.paths, request.principal
    wanted = wanted_fields(paths, WRITABLE) if paths else frozenset[str]()
    return principals.PrincipalChange(
        name=request.new_name,
        admin=asked.admin if "admin" in wanted else None,
        projects=tuple(asked.project_ids) if "project_ids" in wanted else None,
        disabled=request.disabled if request.HasField("disabled") else None,
    )
