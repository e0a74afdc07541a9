"""Joining, keeping the key, renewing the credential, and every way to be refused."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import grpc
import pytest
from banksman.v1 import session_pb2 as pb

from tests.fakes.control_plane import FakeControlPlane, Refusal, command
from tests.integration.agent.conftest import StartAgent
from tests.integration.agent.program import Agent, processes_of
from tests.waiting import wait_for

REVOKED = Refusal(grpc.StatusCode.PERMISSION_DENIED, "The runner was revoked.", "RUNNER_REVOKED")


def kept(state_dir: Path) -> dict[str, str]:
    return json.loads((state_dir / "credential.json").read_text())  # type: ignore[no-any-return]


async def test_a_join_token_is_spent_once_and_the_key_stays_on_the_host(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    agent = await start_agent("--label", "pool=a", "--label", "arch=ours", "--slots", "3")
    path = state_dir / "credential.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert state_dir.stat().st_mode & 0o777 == 0o700
    assert plane.join_tokens == set()
    assert kept(state_dir)["runner_id"] == "runner-1"
    (hello,) = plane.hellos
    # The host's own facts are labels too; what the settings say wins.
    assert (dict(hello.labels), hello.slots) == ({"os": "linux", "arch": "ours", "pool": "a"}, 3)
    assert (hello.protocol_min, hello.protocol_max) == (1, 1)
    assert [capability.name for capability in hello.capabilities] == ["command"]
    assert hello.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert hello.state_directory_id
    assert any("can read the agent's credential" in warning for warning in hello.warnings)
    for secret in (kept(state_dir)["private_key"], kept(state_dir)["credential"], "join-1"):
        assert secret not in agent.log
    await agent.kill()
    (state_dir.parent / "token").unlink()
    await start_agent()
    assert len(plane.runners) == 1
    assert plane.hellos[1].state_directory_id == hello.state_directory_id


async def test_the_join_token_may_come_from_standard_input(plane: FakeControlPlane, tmp_path: Path) -> None:
    agent = Agent(tmp_path / "s", plane.url, "--join-token-stdin", "--name", "r", stdin=b"join-1\n")
    try:
        await agent.start()
        await plane.until_connected()
    finally:
        await agent.end_everything()


async def test_an_expired_credential_renews_itself_by_signature(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    plane.credential_lifetime_s = -10.0
    agent = await start_agent()
    first = kept(state_dir)["credential"]
    await plane.cut()
    await plane.until_connected()
    assert kept(state_dir)["credential"] != first
    plane.credential_lifetime_s = 3_600.0
    await agent.kill()
    await start_agent()
    attempt = await plane.offer(command("true"))
    await plane.until(lambda: attempt.released, "a run")


async def test_a_credential_that_the_server_no_longer_takes_is_renewed(
    plane: FakeControlPlane, start_agent: StartAgent
) -> None:
    await start_agent()
    plane.credentials.clear()
    await plane.cut()
    await plane.until_connected()


async def test_a_refused_join_token_ends_the_agent_with_a_sentence(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    plane.join_tokens = {"another"}
    agent = await start_agent(connected=False)
    assert await agent.wait() == 4
    assert "The server refused the join token (The join token is not valid.)" in agent.log
    assert "banksman runner join-token create" in agent.log
    assert "Traceback" not in agent.log
    wait_for(lambda: not processes_of(state_dir), what="the end of its fork server too")
    # The same key is used when it is tried again with a good token.
    key = kept(state_dir)["private_key"]
    plane.join_tokens = {"join-1"}
    await start_agent()
    assert kept(state_dir)["private_key"] == key


async def test_a_name_that_is_taken_ends_the_agent_with_a_sentence(
    plane: FakeControlPlane, start_agent: StartAgent
) -> None:
    plane.refuse_enrol = Refusal(grpc.StatusCode.ALREADY_EXISTS, "A runner of this name is enrolled.", "NAME_TAKEN")
    agent = await start_agent(connected=False)
    assert await agent.wait() == 6
    assert "already has a runner named 'r-1'" in agent.log
    assert "--replace" in agent.log


async def test_without_a_join_token_it_says_how_to_get_one(plane: FakeControlPlane, tmp_path: Path) -> None:
    agent = Agent(tmp_path / "s", plane.url, "--name", "r")
    try:
        await agent.start()
        assert await agent.wait() == 4
        assert "not enrolled" in agent.log
        assert "--join-token-file" in agent.log
    finally:
        await agent.end_everything()


@pytest.mark.parametrize("door", ["refuse_session", "refuse_renew"])
async def test_a_revoked_runner_leaves_with_4_and_its_runs_are_left_alone(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path, door: str
) -> None:
    agent = await start_agent()
    attempt = await plane.offer(command("sleep", "600"))
    await plane.until(lambda: attempt.state == "RUNNING", "its start")
    if door == "refuse_renew":
        plane.credentials.clear()
    setattr(plane, door, REVOKED)
    await plane.cut()
    assert await agent.wait() == 4
    assert "The server has revoked this runner" in agent.log
    assert "Traceback" not in agent.log
    assert Path(f"/proc/{attempt.pid}").exists()
    os.kill(attempt.pid, signal.SIGKILL)
    wait_for(lambda: not processes_of(state_dir), what="the end of its shim, and of the fork server with it")


async def test_a_credential_that_others_may_read_stops_the_agent(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    agent = await start_agent()
    await agent.kill()
    (state_dir / "credential.json").chmod(0o644)
    again = await start_agent(connected=False)
    assert await again.wait() == 2
    assert "chmod 600" in again.log


async def test_an_agent_that_cannot_begin_leaves_nothing_behind(plane: FakeControlPlane, tmp_path: Path) -> None:
    state_dir = tmp_path / "s"
    state_dir.mkdir(mode=0o700)
    (state_dir / "workspaces").write_text("no directory")
    agent = await Agent(state_dir, plane.url, "--name", "r").start()
    try:
        assert await agent.wait() != 0
        assert "cannot be used" in agent.log
        assert processes_of(state_dir) == set()
    finally:
        await agent.end_everything()


async def test_an_unreachable_server_is_tried_for_ever_with_one_line(tmp_path: Path, plane: FakeControlPlane) -> None:
    port = plane.port
    await plane.close()
    (tmp_path / "token").write_text("join-1")
    agent = Agent(tmp_path / "s", plane.url, "--join-token-file", str(tmp_path / "token"), "--name", "r")
    try:
        await agent.start()
        wait_for(lambda: agent.events("connection"), what="a line about it")
        async with plane.serve(port):
            await plane.until_connected()
        assert [entry["state"] for entry in agent.events("connection")][:2] == ["unreachable", "connected"]
        assert "cannot be reached" in str(agent.events("connection")[0]["message"])
    finally:
        await agent.end_everything()


async def test_hello_tells_a_whole_inventory_in_pages(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    agent = await start_agent()
    await agent.kill()
    for number in range(501):
        broken = state_dir / "runs" / "quarantine" / f"run-{number}.1"
        broken.mkdir()
        (broken / "why-quarantined.txt").write_text("a test")
    sessions = len(plane.hellos)
    await start_agent()
    pages = plane.hellos[sessions:]
    assert [(len(page.inventory), page.more) for page in pages] == [(500, True), (1, False)]
    assert {entry.phase for page in pages for entry in page.inventory} == {pb.HELD_PHASE_QUARANTINED}
