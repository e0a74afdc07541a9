"""From the words of an authorization header to the caller; identity comes from nothing else."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from control_plane.auth.credentials import PREFIX, CredentialPress
from control_plane.auth.tokens import TokenKind, digest, kind_of
from control_plane.domain.errors import ErrorCode, PermissionDenied, Unauthenticated
from control_plane.domain.ids import PrincipalId
from control_plane.domain.principal import Caller, Principal, PrincipalKind
from control_plane.lifecycle import tokens
from control_plane.lifecycle.house import House
from control_plane.storage import reads

SCHEME = "bearer "
# An API token that was just checked is believed for so long; a revocation in this process forgets it at once.
BELIEVED_S = 1.0
MOST_BELIEVED = 4_096


class Authenticator:
    """Checks tokens and runner credentials against the database."""

    def __init__(self, house: House, press: CredentialPress) -> None:
        self._house, self._press = house, press
        self._believed: OrderedDict[str, tuple[float, Caller]] = OrderedDict()

    async def caller(self, authorization: str) -> Caller:
        """Raises Unauthenticated (missing, malformed, unknown, expired, revoked), PermissionDenied (revoked runner)."""
        if authorization[: len(SCHEME)].lower() != SCHEME:
            raise Unauthenticated(ErrorCode.TOKEN_INVALID)
        text = authorization[len(SCHEME) :].strip()
        if text.startswith(PREFIX):
            return await self._runner(text)
        if kind_of(text) not in (TokenKind.USER, TokenKind.SERVICE):
            raise Unauthenticated(ErrorCode.TOKEN_INVALID)
        return await self._member(digest(text))

    def forget(self) -> None:
        """Believe nothing without asking: a token was revoked."""
        self._believed.clear()

    async def _member(self, secret_digest: str) -> Caller:
        now_s = self._house.clock.monotonic_s()
        known = self._believed.get(secret_digest)
        if known is not None and known[0] > now_s:
            return known[1]
        caller = await tokens.authenticate(self._house, secret_digest)
        self._believed[secret_digest] = (now_s + BELIEVED_S, caller)
        self._believed.move_to_end(secret_digest)
        if len(self._believed) > MOST_BELIEVED:
            self._believed.popitem(last=False)
        return caller

    async def _runner(self, text: str) -> Caller:
        claim = self._press.check(text, self._house.clock.now())
        runner = await self._house.database.read(partial(reads.runner, runner_id=claim.runner_id))
        if runner is not None and runner.revoked_at is not None:
            raise PermissionDenied(ErrorCode.RUNNER_REVOKED, principal=(runner.id, runner.name))
        if runner is None or not claim.is_of(runner):
            raise Unauthenticated(ErrorCode.TOKEN_INVALID)
        principal = Principal(
            id=PrincipalId(runner.id),
            kind=PrincipalKind.RUNNER,
            name=runner.name,
            project_ids=runner.allowed_project_ids,
            created_at=runner.created_at,
        )
        return Caller(principal=principal, runner_id=runner.id, credential_generation=claim.generation)
