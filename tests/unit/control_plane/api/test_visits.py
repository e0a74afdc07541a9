"""Calls that stay open: bounded for each caller, and over when their caller's access is."""

import asyncio
from dataclasses import replace

from control_plane.api.visits import Visits
from control_plane.domain.errors import BanksmanError, ErrorCode, Unauthenticated, Unavailable
from control_plane.domain.ids import PrincipalId, ProjectId
from control_plane.domain.principal import Caller, Principal, PrincipalKind
from tests.fakes.clock import FakeClock


def caller(name: str) -> Caller:
    return Caller(
        principal=Principal(
            id=PrincipalId(name), kind=PrincipalKind.USER, name=name, created_at=FakeClock().now(), project_ids=()
        )
    )


async def stay(visits: Visits, who: Caller | None, *, peer: str = "p") -> str:
    """How the visit ended."""
    authorization = "" if who is None else f"of {who.principal.name}"
    try:
        with visits.visit(authorization=authorization, caller=who, peer=peer):
            await asyncio.Event().wait()
    except BanksmanError as error:
        return error.code
    raise AssertionError("it cannot end by itself")


async def ended(task: asyncio.Task[str]) -> str:
    async with asyncio.timeout(10):
        return await task


async def opened(group: asyncio.TaskGroup, visits: Visits, who: Caller | None, **words: str) -> asyncio.Task[str]:
    task = group.create_task(stay(visits, who, **words))
    await asyncio.sleep(0)
    return task


async def test_who_lost_its_access_or_has_another_is_not_served_on():
    visits = Visits()
    wide = caller("changed")
    wide = replace(wide, principal=replace(wide.principal, project_ids=(ProjectId("p"),)))
    async with asyncio.TaskGroup() as group:
        gone, changed, stays = [await opened(group, visits, who) for who in (caller("gone"), wide, caller("stays"))]
        open_to_all = await opened(group, visits, None)

        async def authenticate(authorization: str) -> Caller:
            if authorization == "of gone":
                raise Unauthenticated(ErrorCode.TOKEN_REVOKED)
            return caller(authorization.removeprefix("of "))

        await visits.recheck(authenticate)
        assert (await ended(gone), await ended(changed)) == (ErrorCode.TOKEN_REVOKED, ErrorCode.ACCESS_CHANGED)
        assert not stays.done()
        assert not open_to_all.done()
        visits.end_all()
        assert {await ended(stays), await ended(open_to_all)} == {ErrorCode.SHUTTING_DOWN}


async def test_a_database_that_does_not_answer_ends_nobody():
    visits = Visits()
    async with asyncio.TaskGroup() as group:
        stays = await opened(group, visits, caller("stays"))

        async def authenticate(authorization: str) -> Caller:
            raise Unavailable(ErrorCode.STORAGE_UNAVAILABLE)

        await visits.recheck(authenticate)
        await asyncio.sleep(0)
        assert not stays.done()
        visits.end_all()


async def test_each_caller_has_so_many_and_no_more():
    visits = Visits(most_each=2)
    async with asyncio.TaskGroup() as group:
        mine = [await opened(group, visits, caller("eve")) for _ in range(3)]
        assert await ended(mine[2]) == ErrorCode.TOO_MANY_STREAMS
        await opened(group, visits, caller("adam"))
        strangers = [await opened(group, visits, None, peer=peer) for peer in ("a", "a", "a", "b")]
        assert await ended(strangers[2]) == ErrorCode.TOO_MANY_STREAMS
        assert not strangers[3].done()
        mine[0].cancel()
        await asyncio.wait({mine[0]})
        again = await opened(group, visits, caller("eve"))
        assert not again.done()
        visits.end_all()
