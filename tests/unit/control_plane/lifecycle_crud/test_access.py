"""Principals, tokens, secrets: digests only, one answer for all mistakes, values that never come back."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial

import pytest

from control_plane.domain.errors import (
    AlreadyExists,
    ErrorCode,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unauthenticated,
)
from control_plane.domain.ids import TokenId
from control_plane.domain.principal import PrincipalKind
from control_plane.lifecycle import principals, projects, secrets, tokens
from control_plane.lifecycle.principals import NewPrincipal
from control_plane.lifecycle.projects import NewProject
from control_plane.lifecycle.secrets import NewValue
from control_plane.lifecycle.tokens import NewToken
from control_plane.storage import reads
from control_plane.storage.database import Connection
from tests.unit.control_plane.lifecycle_crud.conftest import Stage


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def test_the_first_admin_is_made_once(stage: Stage) -> None:
    assert not await stage.house.database.read(reads.has_admin)
    token = await principals.ensure_admin(stage.house, digest("a"), "first start")
    assert await principals.ensure_admin(stage.house, digest("a"), "first start") == token
    caller = await tokens.authenticate(stage.house, digest("a"))
    assert caller.principal.admin
    assert caller.principal.name == "admin"
    # The server's file was lost: another token, the same principal.
    await principals.ensure_admin(stage.house, digest("b"), "again")
    assert (await tokens.authenticate(stage.house, digest("b"))).principal == caller.principal
    assert await stage.house.database.read(reads.has_admin)


async def test_principals_use_the_projects_they_are_given(stage: Stage) -> None:
    web = await projects.create(stage.house, stage.caller, NewProject(name="web"))
    new = NewPrincipal(kind=PrincipalKind.SERVICE, name="ci", projects=("web", "default", web.id))
    made = await principals.create(stage.house, stage.caller, new)
    assert made.project_ids == (web.id, stage.default.id)
    assert await stage.house.database.read(partial(reads.the_principal, id_or_name="ci")) == made
    with pytest.raises(AlreadyExists):
        await principals.create(stage.house, stage.caller, replace(new, projects=()))


async def test_every_mistake_about_a_principal_is_named(stage: Stage) -> None:
    new = NewPrincipal(kind=PrincipalKind.RUNNER, name="", admin=True, projects=("default", "nope", ""))
    with pytest.raises(InvalidArgument) as caught:
        await principals.create(stage.house, stage.caller, new)
    assert [violation.field for violation in caught.value.violations] == [
        "principal.name",
        "principal.kind",
        "principal.project_ids",
        "principal.project_ids[1]",
        "principal.project_ids[2]",
    ]


async def test_a_token_works_until_it_is_revoked_or_expires(stage: Stage) -> None:
    await principals.ensure_admin(stage.house, digest("admin"), "")
    await principals.create(stage.house, stage.caller, NewPrincipal(kind=PrincipalKind.SERVICE, name="ci"))
    for_ever = await tokens.create(stage.house, stage.caller, NewToken(secret_digest=digest("a"), principal="ci"))
    hour = NewToken(secret_digest=digest("b"), principal="ci", note="an hour", lifetime_s=3600)
    short = await tokens.create(stage.house, stage.caller, hour)
    assert short.principal_name == "ci"
    caller = await tokens.authenticate(stage.house, digest("b"))
    assert (caller.principal.name, caller.token_id) == ("ci", short.id)
    stage.clock.advance(3600)
    with pytest.raises(Unauthenticated) as caught:
        await tokens.authenticate(stage.house, digest("b"))
    assert caught.value.code is ErrorCode.TOKEN_EXPIRED
    with stage.house.watch.subscribe(tokens.TOPIC) as wakeups:
        await tokens.revoke(stage.house, for_ever.id)
        assert await wakeups.wait(1)
    await tokens.revoke(stage.house, for_ever.id)
    with pytest.raises(Unauthenticated) as caught:
        await tokens.authenticate(stage.house, digest("a"))
    assert caught.value.code is ErrorCode.TOKEN_REVOKED
    with pytest.raises(Unauthenticated) as caught:
        await tokens.authenticate(stage.house, digest("c"))
    assert caught.value.code is ErrorCode.TOKEN_INVALID
    with pytest.raises(NotFound):
        await tokens.revoke(stage.house, TokenId("none"))


async def test_a_use_is_written_once_a_minute(stage: Stage) -> None:
    token = await principals.ensure_admin(stage.house, digest("a"), "")

    async def used(seconds: float) -> int:
        stage.clock.advance(seconds)
        before = stage.house.database.statistics().by_name.get("tokens.use", 0)
        await tokens.authenticate(stage.house, digest("a"))
        return stage.house.database.statistics().by_name.get("tokens.use", 0) - before

    assert [await used(seconds) for seconds in (0, 0, 59, 1, 30, 30)] == [1, 0, 0, 1, 0, 1]
    stored = await stage.house.database.read(partial(reads.token, token_id=token.id))
    assert stored is not None
    assert stored.last_used_at == stage.clock.now()


async def test_a_full_disk_does_not_lock_anybody_out(stage: Stage) -> None:
    await principals.ensure_admin(stage.house, digest("a"), "")

    def fill(conn: Connection) -> None:
        conn.exec_driver_sql("CREATE TABLE filler (x BLOB)")
        conn.exec_driver_sql(
            "CREATE TRIGGER full BEFORE UPDATE ON tokens BEGIN INSERT INTO filler VALUES(zeroblob(1 << 24)); END"
        )
        pages = conn.exec_driver_sql("PRAGMA page_count").scalar_one()
        conn.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    await stage.house.database.write(fill)
    assert (await tokens.authenticate(stage.house, digest("a"))).principal.name == "admin"
    assert stage.house.database.statistics().failed == 1


async def test_the_last_token_of_an_admin_stays(stage: Stage) -> None:
    first = await principals.ensure_admin(stage.house, digest("a"), "")
    with pytest.raises(FailedPrecondition) as caught:
        await tokens.revoke(stage.house, first.id)
    assert caught.value.code is ErrorCode.LAST_ADMIN
    second = await principals.ensure_admin(stage.house, digest("b"), "")
    await tokens.revoke(stage.house, first.id)
    with pytest.raises(FailedPrecondition):
        await tokens.revoke(stage.house, second.id)


async def test_a_repeated_token_request_gives_the_first_token(stage: Stage) -> None:
    await principals.create(stage.house, stage.caller, NewPrincipal(kind=PrincipalKind.USER, name="bob"))
    new = NewToken(secret_digest=digest("a"), principal="bob")
    first = await tokens.create(stage.house, stage.asking("r"), new)
    again = await tokens.create(stage.house, stage.asking("r"), replace(new, secret_digest=digest("b")))
    assert again == first
    assert again.secret_digest == digest("a")
    with pytest.raises(Unauthenticated):
        await tokens.authenticate(stage.house, digest("b"))


async def test_mistakes_about_a_token_are_named(stage: Stage) -> None:
    for lifetime_s in (0.0, -1.0, 59.9, 1e12, float("nan")):
        bad = NewToken(secret_digest=digest("a"), principal="x", note="n" * 1025, lifetime_s=lifetime_s)
        with pytest.raises(InvalidArgument) as caught:
            await tokens.create(stage.house, stage.caller, bad)
        assert [violation.field for violation in caught.value.violations] == ["note", "lifetime"]
    with pytest.raises(NotFound):
        await tokens.create(stage.house, stage.caller, NewToken(secret_digest=digest("a"), principal="nobody"))


async def test_a_secret_is_sealed_and_versioned(stage: Stage) -> None:
    project = stage.default.id
    first = await secrets.put(stage.house, stage.caller, NewValue(project_id=project, name="TOKEN", value=b"12345678"))
    stage.clock.advance(1)
    second = await secrets.put(stage.house, stage.caller, NewValue(project_id=project, name="TOKEN", value=b"abcdefgh"))
    assert second == replace(first, version=2, updated_at=stage.clock.now())
    (sealed,) = await stage.house.database.read(
        partial(reads.sealed_secrets, project_id=project, names=["TOKEN", "OTHER"])
    )
    assert sealed.secret == second
    assert stage.house.vault.open(project, "TOKEN", 2, sealed.sealed) == b"abcdefgh"
    assert b"abcdefgh" not in stage.house.database.path.read_bytes()
    assert b"abcdefgh" not in stage.house.database.path.with_name("banksman.db-wal").read_bytes()
    await secrets.delete(stage.house, stage.caller, project, "TOKEN")
    with pytest.raises(NotFound) as caught:
        await secrets.delete(stage.house, stage.caller, project, "TOKEN")
    assert caught.value.code is ErrorCode.SECRET_NOT_FOUND
    page = await stage.house.database.read(partial(reads.list_secrets, project_id=project, request=reads.PageRequest()))
    assert page.items == ()


@pytest.mark.parametrize(("size", "fits"), [(7, False), (8, True), (65_536, True), (65_537, False)])
async def test_a_secrets_size(stage: Stage, size: int, fits: bool) -> None:
    new = NewValue(project_id=stage.default.id, name="S", value=b"v" * size)
    assert "vvv" not in repr(new)
    if fits:
        assert (await secrets.put(stage.house, stage.caller, new)).version == 1
    else:
        with pytest.raises(InvalidArgument) as caught:
            await secrets.put(stage.house, stage.caller, replace(new, name="1 bad"))
        assert [violation.field for violation in caught.value.violations] == ["name", "value"]
        assert "vvv" not in str(caught.value)
