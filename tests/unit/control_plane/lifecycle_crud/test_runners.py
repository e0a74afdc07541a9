"""Runners: a join token works once, the key is the identity, the newest session wins, a revoked runner is out."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from functools import partial

import pytest

from control_plane.domain.attempt import AttemptState
from control_plane.domain.errors import (
    AlreadyExists,
    BanksmanError,
    ErrorCode,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from control_plane.domain.ids import JoinTokenId, RunnerId
from control_plane.domain.placement import Match
from control_plane.domain.run import RunState
from control_plane.domain.runner import Runner
from control_plane.domain.session import Hello, Withdraw
from control_plane.lifecycle import attempts, runners, runs
from control_plane.lifecycle.runners import Enrolment, NewJoinToken
from control_plane.lifecycle.runs import NewRun
from control_plane.storage import reads
from tests.unit.control_plane.lifecycle_crud.conftest import SPEC, Stage

KEY = bytes(range(32))
OTHER_KEY = bytes(32)
HELLO = Hello(protocol_min=1, protocol_max=1, slots=4, state_directory_id="dir", boot_id="boot", agent_version="1")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def join_token(stage: Stage, secret: str = "t", **more: object) -> JoinTokenId:
    new = NewJoinToken(secret_digest=digest(secret), **more)  # type: ignore[arg-type]
    return (await runners.create_join_token(stage.house, stage.caller, new)).id


async def joined(stage: Stage, name: str = "host", **more: object) -> Runner:
    await join_token(stage, f"for {name}", **more)
    return await runners.enrol(stage.house, Enrolment(join_digest=digest(f"for {name}"), name=name, public_key=KEY))


async def connected(stage: Stage, runner: Runner, hello: Hello = HELLO) -> Runner:
    return await runners.connect(stage.house, runner.id, hello, credential_generation=runner.credential_generation)


async def stored(stage: Stage, runner_id: RunnerId) -> Runner:
    found = await stage.house.database.read(partial(reads.runner, runner_id=runner_id))
    assert found is not None
    return found


async def test_a_runner_gets_what_its_join_token_grants(stage: Stage) -> None:
    token_id = await join_token(
        stage, pool="gpu", granted_labels={"team": "a", "zone": "b"}, allowed_projects=("default",)
    )
    asked = Enrolment(join_digest=digest("t"), name="host", public_key=KEY, labels={"team": "a", "os": "linux"})
    runner = await runners.enrol(stage.house, asked)
    assert runner == await stored(stage, runner.id)
    assert (runner.pool, runner.labels, runner.public_key) == ("gpu", {"team": "a", "os": "linux"}, KEY)
    assert runner.granted_labels == {"team": "a", "zone": "b"}
    assert runner.allowed_project_ids == (stage.default.id,)
    assert not runner.connected
    token = await stage.house.database.read(partial(reads.join_token, token_id=token_id))
    assert token is not None
    assert token.used_at == stage.clock.now()


async def test_of_fifty_redemptions_exactly_one_wins(stage: Stage) -> None:
    await join_token(stage)

    async def redeem(number: int) -> BanksmanError | Runner:
        asked = Enrolment(join_digest=digest("t"), name=f"host-{number}", public_key=bytes([number] * 32))
        try:
            return await runners.enrol(stage.house, asked)
        except FailedPrecondition as error:
            return error

    outcomes = await asyncio.gather(*(redeem(number) for number in range(50)))
    won = [outcome for outcome in outcomes if isinstance(outcome, Runner)]
    assert len(won) == 1
    assert {outcome.code for outcome in outcomes if isinstance(outcome, BanksmanError)} == {ErrorCode.JOIN_TOKEN_USED}
    page = await stage.house.database.read(partial(reads.list_runners, request=reads.PageRequest()))
    assert page.items == tuple(won)


async def test_the_same_host_may_ask_again_for_a_lost_answer(stage: Stage) -> None:
    await join_token(stage)
    asked = Enrolment(join_digest=digest("t"), name="host", public_key=KEY)
    first = await runners.enrol(stage.house, asked)
    stage.clock.advance(3600)
    assert await runners.enrol(stage.house, asked) == first
    for other in (replace(asked, public_key=OTHER_KEY), replace(asked, name="other")):
        with pytest.raises(FailedPrecondition) as caught:
            await runners.enrol(stage.house, other)
        assert caught.value.code is ErrorCode.JOIN_TOKEN_USED
    await runners.revoke(stage.house, first.id)
    with pytest.raises(PermissionDenied):
        await runners.enrol(stage.house, asked)


async def test_a_join_token_that_expired_or_was_deleted_is_worth_nothing(stage: Stage) -> None:
    token_id = await join_token(stage, lifetime_s=60)
    asked = Enrolment(join_digest=digest("t"), name="host", public_key=KEY)
    stage.clock.advance(60)
    with pytest.raises(Unauthenticated) as caught:
        await runners.enrol(stage.house, asked)
    assert caught.value.code is ErrorCode.JOIN_TOKEN_INVALID
    await runners.delete_join_token(stage.house, token_id)
    with pytest.raises(NotFound):
        await runners.delete_join_token(stage.house, token_id)
    with pytest.raises(Unauthenticated):
        await runners.enrol(stage.house, asked)


async def test_mistakes_about_join_tokens_are_named(stage: Stage) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await join_token(stage, pool="a b", granted_labels={"": "x"}, allowed_projects=("no",), lifetime_s=604_801)
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["granted_labels", "pool", "lifetime", "allowed_projects[0]"]
    await join_token(stage, lifetime_s=604_800)


async def test_mistakes_about_an_enrolment_are_named_and_use_nothing_up(stage: Stage) -> None:
    await join_token(stage, granted_labels={"team": "a"})
    bad = Enrolment(join_digest=digest("t"), name="a/b", public_key=b"short", labels={"bad key": "x"})
    with pytest.raises(InvalidArgument) as caught:
        await runners.enrol(stage.house, bad)
    assert [violation.field for violation in caught.value.violations] == ["name", "labels", "public_key"]
    claiming = Enrolment(join_digest=digest("t"), name="host", public_key=KEY, labels={"team": "b"})
    with pytest.raises(FailedPrecondition) as refused:
        await runners.enrol(stage.house, claiming)
    assert refused.value.code is ErrorCode.LABEL_NOT_GRANTED
    await runners.enrol(stage.house, replace(claiming, labels={"team": "a"}))


async def test_a_name_is_taken_over_only_with_replace(stage: Stage) -> None:
    old = await connected(stage, await joined(stage))
    await join_token(stage, "second", pool="new")
    asked = Enrolment(join_digest=digest("second"), name="host", public_key=OTHER_KEY)
    with pytest.raises(AlreadyExists) as caught:
        await runners.enrol(stage.house, asked)
    assert caught.value.code is ErrorCode.RUNNER_NAME_TAKEN
    new = await runners.enrol(stage.house, replace(asked, replace=True))
    assert (new.id, new.public_key, new.pool) == (old.id, OTHER_KEY, "new")
    assert new.credential_generation == old.credential_generation + 1
    with pytest.raises(PermissionDenied):
        await connected(stage, old)
    assert (await connected(stage, new)).session_epoch == old.session_epoch + 1


async def test_the_newest_session_wins(stage: Stage) -> None:
    runner = await joined(stage)
    first = await connected(stage, runner)
    second = await connected(stage, runner)
    assert (first.session_epoch, second.session_epoch) == (1, 2)
    # The end of the first stream is heard late: its runner is not away.
    assert not await runners.disconnect(stage.house, runner.id, first.session_epoch)
    assert (await stored(stage, runner.id)).connected
    stage.clock.advance(3)
    assert await runners.disconnect(stage.house, runner.id, second.session_epoch)
    away = await stored(stage, runner.id)
    assert (away.connected, away.disconnected_since) == (False, stage.clock.now())
    assert not await runners.disconnect(stage.house, runner.id, second.session_epoch)
    assert (await connected(stage, runner)).disconnected_since is None


async def test_ten_hellos_at_once_get_ten_epochs(stage: Stage) -> None:
    runner = await joined(stage)
    sessions = await asyncio.gather(*(connected(stage, runner) for _ in range(10)))
    assert sorted(session.session_epoch for session in sessions) == list(range(1, 11))


async def test_a_hello_brings_what_is_known_of_the_host(stage: Stage) -> None:
    runner = await joined(stage, granted_labels={"team": "a"})
    hello = replace(HELLO, labels={"team": "b", "os": "linux"}, warnings=("no cgroup",), slots=1024)
    seen = await connected(stage, runner, hello)
    assert seen == await stored(stage, runner.id)
    assert (seen.labels, seen.slots, seen.boot_id, seen.state_directory_id) == ({"os": "linux"}, 1024, "boot", "dir")
    assert seen.warnings[0].startswith("The label team was not granted")
    assert seen.warnings[1] == "no cgroup"
    assert seen.last_seen_at == stage.clock.now()


async def test_mistakes_in_a_hello_are_named(stage: Stage) -> None:
    runner = await joined(stage)
    bad = replace(HELLO, labels={"a b": "c"}, slots=0, state_directory_id="", boot_id="b" * 129)
    with pytest.raises(InvalidArgument) as caught:
        await connected(stage, runner, bad)
    assert [violation.field for violation in caught.value.violations] == [
        "hello.labels",
        "hello.slots",
        "hello.state_directory_id",
        "hello.boot_id",
    ]
    with pytest.raises(InvalidArgument):
        await connected(stage, runner, replace(HELLO, slots=1025))


async def test_a_server_that_starts_finds_nobody_connected(stage: Stage) -> None:
    there, away = await connected(stage, await joined(stage)), await joined(stage, "away")
    stage.clock.advance(10)
    assert await runners.disconnect_all(stage.house) == 1
    assert (await stored(stage, there.id)).disconnected_since == stage.clock.now()
    assert (await stored(stage, away.id)).disconnected_since == away.disconnected_since


class TestOffersOfARunnerThatLeaves:
    async def offered(self, stage: Stage, runner: Runner) -> runs.Run:
        run = await runs.create(stage.house, stage.caller, NewRun(project_id=stage.default.id, spec=SPEC))
        assert len(await attempts.offer(stage.house, [Match(run_id=run.id, runner_id=runner.id)])) == 1
        return run

    async def check_returned(self, stage: Stage, run: runs.Run, runner: Runner) -> None:
        found = await stage.house.database.read(partial(reads.run, run_id=run.id))
        (attempt,) = await stage.house.database.read(partial(reads.attempts, run_id=run.id))
        assert found is not None
        assert (found.state, attempt.state) == (RunState.QUEUED, AttemptState.REJECTED)
        assert any(to == runner.id and isinstance(message, Withdraw) for to, message in stage.said)

    async def test_drain_takes_them_back_and_resume_allows_new_ones(self, stage: Stage) -> None:
        runner = await connected(stage, await joined(stage))
        run = await self.offered(stage, runner)
        with stage.house.watch.subscribe(f"runner:{runner.id}") as wakeups:
            assert (await runners.drain(stage.house, runner.id)).draining
            assert await wakeups.wait(1)
        await self.check_returned(stage, run, runner)
        assert await attempts.offer(stage.house, [Match(run_id=run.id, runner_id=runner.id)]) == ()
        # A new session does not undo the operator's order.
        assert (await connected(stage, runner)).draining
        assert not (await runners.resume(stage.house, runner.id)).draining
        assert len(await attempts.offer(stage.house, [Match(run_id=run.id, runner_id=runner.id)])) == 1

    async def test_revoke_takes_them_back_for_ever(self, stage: Stage) -> None:
        runner = await connected(stage, await joined(stage))
        run = await self.offered(stage, runner)
        revoked = await runners.revoke(stage.house, runner.id)
        assert revoked.revoked_at == stage.clock.now()
        assert revoked.credential_generation == runner.credential_generation + 1
        await self.check_returned(stage, run, runner)
        stage.clock.advance(1)
        assert await runners.revoke(stage.house, runner.id) == await stored(stage, runner.id)
        assert (await stored(stage, runner.id)).revoked_at == revoked.revoked_at
        with pytest.raises(PermissionDenied):
            await connected(stage, revoked)
        with pytest.raises(PermissionDenied):
            await runners.renew(stage.house, runner.id)
        assert await stage.house.database.read(reads.runners) == ()

    async def test_replace_takes_them_back(self, stage: Stage) -> None:
        runner = await connected(stage, await joined(stage))
        run = await self.offered(stage, runner)
        await join_token(stage, "second")
        asked = Enrolment(join_digest=digest("second"), name="host", public_key=OTHER_KEY, replace=True)
        await runners.enrol(stage.house, asked)
        await self.check_returned(stage, run, runner)


async def test_unknown_runners(stage: Stage) -> None:
    nobody = RunnerId(stage.clock.new_id())
    for verb in (runners.drain, runners.resume, runners.revoke, runners.renew):
        with pytest.raises(NotFound):
            await verb(stage.house, nobody)
    assert not await runners.disconnect(stage.house, nobody, 1)
    runner = await joined(stage)
    assert (await runners.renew(stage.house, runner.id)).public_key == KEY
