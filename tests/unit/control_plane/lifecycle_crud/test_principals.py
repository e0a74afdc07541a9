"""Principals that change: what they may do, what they are called, and whether they may call at all."""

from __future__ import annotations

import hashlib

import pytest

from control_plane.domain.errors import BanksmanError, ErrorCode
from control_plane.domain.ids import PrincipalId
from control_plane.domain.principal import Principal, PrincipalKind
from control_plane.lifecycle import principals, projects, tokens
from control_plane.lifecycle.principals import NewPrincipal, PrincipalChange
from control_plane.lifecycle.projects import NewProject
from control_plane.lifecycle.tokens import NewToken
from tests.unit.control_plane.lifecycle_crud.conftest import Stage


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def made(stage: Stage, name: str, *, admin: bool = False) -> Principal:
    """A user with a token whose secret is its name."""
    new = NewPrincipal(kind=PrincipalKind.USER, name=name, admin=admin, projects=() if admin else ("default",))
    principal = await principals.create(stage.house, stage.caller, new)
    await tokens.create(stage.house, stage.caller, NewToken(principal=principal.id, secret_digest=digest(name)))
    return principal


async def changed(stage: Stage, principal: Principal, **what: object) -> Principal:
    change = PrincipalChange(**what)  # type: ignore[arg-type]
    return await principals.update(stage.house, principal.id, change)


async def refused(stage: Stage, principal: Principal, **what: object) -> BanksmanError:
    with pytest.raises(BanksmanError) as caught:
        await changed(stage, principal, **what)
    return caught.value


async def test_what_is_not_given_stays(stage: Stage) -> None:
    bo = await made(stage, "bo")
    assert await changed(stage, bo) == bo
    web = await projects.create(stage.house, stage.caller, NewProject(name="web"))
    moved = await changed(stage, bo, projects=("web", web.id))
    assert (moved.project_ids, moved.name, moved.admin) == ((web.id,), "bo", False)
    renamed = await changed(stage, bo, name="bob")
    assert (renamed.id, renamed.name, renamed.project_ids) == (bo.id, "bob", (web.id,))
    raised = await changed(stage, bo, admin=True)
    assert (raised.admin, raised.project_ids) == (True, ())
    assert (await tokens.authenticate(stage.house, digest("bo"))).principal == raised


async def test_a_disabled_principal_is_refused_until_it_is_enabled(stage: Stage) -> None:
    bo = await made(stage, "bo")
    off = await changed(stage, bo, disabled=True)
    assert off.disabled_at is not None
    assert (await changed(stage, bo, disabled=True)).disabled_at == off.disabled_at
    with pytest.raises(BanksmanError) as caught:
        await tokens.authenticate(stage.house, digest("bo"))
    assert caught.value.code is ErrorCode.PRINCIPAL_DISABLED
    assert (await changed(stage, bo, disabled=False)).disabled_at is None
    assert (await tokens.authenticate(stage.house, digest("bo"))).principal.id == bo.id


async def test_somebody_can_always_administer(stage: Stage) -> None:
    first = await made(stage, "first", admin=True)
    assert (await refused(stage, first, disabled=True)).code is ErrorCode.LAST_ADMIN
    assert (await refused(stage, first, admin=False)).code is ErrorCode.LAST_ADMIN
    second = await made(stage, "second", admin=True)
    assert not (await changed(stage, first, admin=False)).admin
    assert (await refused(stage, second, disabled=True)).code is ErrorCode.LAST_ADMIN


async def test_the_servers_own_admin_stays_as_it_is(stage: Stage) -> None:
    token = await principals.ensure_admin(stage.house, digest("a"), "first start")
    admin = (await tokens.authenticate(stage.house, digest("a"))).principal
    assert token.principal_id == admin.id
    await made(stage, "other", admin=True)
    for what in ({"name": "root"}, {"admin": False}, {"disabled": True}):
        assert [each.field for each in (await refused(stage, admin, **what)).violations] == ["principal"]


async def test_every_mistake_is_named(stage: Stage) -> None:
    bo = await made(stage, "bo")
    await made(stage, "ann")
    assert (await refused(stage, bo, name="ann")).code is ErrorCode.NAME_TAKEN
    wrong = await refused(stage, bo, name="a/b", admin=True, projects=("default", "nope"))
    assert [each.field for each in wrong.violations] == [
        "new_name",
        "principal.project_ids",
        "principal.project_ids[1]",
    ]
    nobody = Principal(id=PrincipalId("x"), kind=PrincipalKind.USER, name="x", created_at=bo.created_at)
    assert (await refused(stage, nobody, admin=True)).code is ErrorCode.PRINCIPAL_NOT_FOUND
