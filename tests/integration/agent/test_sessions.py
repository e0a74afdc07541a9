"""The stream is cut, superseded, or loses messages; the agent comes back and everything heals."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from banksman.v1 import session_pb2 as pb
from google.protobuf.duration_pb2 import Duration

from tests.fakes.control_plane import FakeControlPlane, command
from tests.fakes.plane_attempt import wire_key
from tests.integration.agent.conftest import StartAgent

LINES = 'import sys\nfor i in range({n}): sys.stdout.write("%d\\n" % i)'


async def test_nothing_is_done_before_welcome(plane: FakeControlPlane, start_agent: StartAgent) -> None:
    plane.greet = lambda welcome: None
    await start_agent()
    attempt = await plane.offer(command("true"))
    plane.greet = lambda welcome: welcome
    await plane.cut()
    await plane.until_connected()
    later = await plane.offer(command("true"))
    await plane.until(lambda: later.released, "a run after Welcome")
    assert attempt.state == "OFFERED"
    assert plane.heard["offer_reply"] == 1


async def test_a_cut_resumes_the_log_from_the_servers_offset(plane: FakeControlPlane, start_agent: StartAgent) -> None:
    await start_agent()
    attempt = await plane.offer(command("python3", "-c", LINES.format(n=200_000)))
    for cut in range(3):
        await plane.until(lambda cut=cut: len(attempt.log) > 50_000 * (cut + 1), "more of its log")
        await plane.cut()
        await plane.until_connected()
    await plane.until(lambda: attempt.released, "its release")
    assert bytes(attempt.log) == "".join(f"{i}\n" for i in range(200_000)).encode()


@pytest.mark.parametrize("offset", [0, 1, 12_345, 65_536, 100_000])
async def test_the_log_is_sent_again_from_any_offset_that_the_server_names(
    plane: FakeControlPlane, start_agent: StartAgent, offset: int
) -> None:
    await start_agent()
    attempt = await plane.offer(
        command("sh", "-c", "head -c 150000 /dev/zero | tr '\\0' x; until [ -e go ]; do sleep 0.02; done")
    )
    await plane.until(lambda: len(attempt.log) == 150_000, "its log")
    sent = len(plane.chunks)
    await plane.lose_log(attempt, offset)
    await plane.until(lambda: len(attempt.log) == 150_000, "the log again")
    assert plane.chunks[sent][1] == offset
    assert bytes(attempt.log) == b"x" * 150_000


async def test_lost_chunks_are_asked_for_again_and_lost_at_the_end_found_by_heartbeats(
    plane: FakeControlPlane, start_agent: StartAgent
) -> None:
    await start_agent()
    plane.lose["log_chunk"] = 1  # the only chunk of a short log: no later one shows the gap
    attempt = await plane.offer(command("echo", "all of it"))
    await plane.until(lambda: attempt.released, "its release")
    assert bytes(attempt.log) == b"all of it\n"
    plane.lose["log_chunk"] = 2
    long = await plane.offer(command("python3", "-c", LINES.format(n=100_000)))
    await plane.until(lambda: long.released, "the long one's release")
    assert bytes(long.log) == "".join(f"{i}\n" for i in range(100_000)).encode()


async def test_a_lost_assignment_comes_again_by_heartbeat(plane: FakeControlPlane, start_agent: StartAgent) -> None:
    await start_agent()
    plane.lose[">assignment"] = 1
    attempt = await plane.offer(command("true"))
    await plane.until(lambda: attempt.released, "its release")
    assert attempt.starts == 1
    assert plane.session_epoch == 1


@pytest.mark.parametrize("kind", ["attempt_exited", "attempt_started", "offer_reply", ">release", ">log_ack"])
async def test_any_lost_message_heals_without_a_reconnect(
    plane: FakeControlPlane, start_agent: StartAgent, kind: str
) -> None:
    await start_agent()
    plane.lose[kind] = 1
    attempt = await plane.offer(command("sh", "-c", "echo out; exit 4"))
    if kind == "offer_reply":
        attempt.state = "STARTING"  # as the real one: an acceptance in a held set counts like the reply
    await plane.until(lambda: attempt.released and plane.nothing_held, "its release")
    assert attempt.exit is not None
    assert attempt.exit.exit_code == 4
    assert plane.session_epoch == 1


async def test_a_dropped_exit_is_told_until_it_is_stored(plane: FakeControlPlane, start_agent: StartAgent) -> None:
    await start_agent()
    plane.lose["attempt_exited"] = 100
    plane.lose["heartbeat"] = 4
    attempt = await plane.offer(command("sh", "-c", "exit 9"))
    await plane.until(lambda: attempt.released, "its release")
    assert attempt.exit is not None
    assert attempt.exit.exit_code == 9


async def test_a_goodbye_is_obeyed_and_the_agent_comes_back(plane: FakeControlPlane, start_agent: StartAgent) -> None:
    await start_agent()
    await plane.say(goodbye=pb.Goodbye(reason="restarting", reconnect_after=Duration(nanos=1)))
    await plane.until(lambda: plane.session_epoch == 2 and plane.connected, "another session")
    attempt = await plane.offer(command("true"))
    await plane.until(lambda: attempt.released, "a run")


async def test_a_superseded_session_ends_and_its_attempts_live_on_in_the_next(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    agent = await start_agent()
    attempt = await plane.offer(command("sh", "-c", "echo up; until [ -e go ]; do sleep 0.02; done; echo down"))
    await plane.until(lambda: attempt.log, "its first line")
    goodbye = pb.Goodbye(reason="superseded by a newer session", reconnect_after=Duration(nanos=1))
    await plane.say(goodbye=goodbye)
    await plane.until(lambda: plane.session_epoch == 2 and plane.connected, "another session")
    (state_dir / "workspaces" / f"{attempt.key[0]}.1" / "work" / "go").touch()
    await plane.until(lambda: attempt.released, "its release")
    assert bytes(attempt.log) == b"up\ndown\n"
    assert [entry["state"] for entry in agent.events("connection")].count("superseded") == 1


async def test_the_server_goes_away_and_comes_back(
    tmp_path: Path, start_agent: StartAgent, plane: FakeControlPlane
) -> None:
    port = plane.port
    agent = await start_agent()
    attempt = await plane.offer(command("sh", "-c", "echo up; until [ -e go ]; do sleep 0.02; done; echo down"))
    await plane.until(lambda: attempt.log, "its first line")
    await plane.close()
    (tmp_path / "s" / "workspaces" / f"{attempt.key[0]}.1" / "work" / "go").touch()
    async with plane.serve(port):
        await plane.until(lambda: attempt.released, "its release")
    assert bytes(attempt.log) == b"up\ndown\n"
    told = [entry["state"] for entry in agent.events("connection")]
    assert all(one != other for one, other in itertools.pairwise(told)), "one line per change, not per try"


async def test_a_silent_server_is_left(plane: FakeControlPlane, start_agent: StartAgent) -> None:
    plane.lease_s = 1.0
    await start_agent()
    plane.lose[">heartbeat_ack"] = 100
    await plane.until(lambda: plane.session_epoch == 2, "another session")


async def test_an_unknown_run_is_kept_and_its_end_too(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    await start_agent()
    attempt = await plane.offer(command("sh", "-c", "echo up; until [ -e go ]; do sleep 0.02; done"))
    await plane.until(lambda: attempt.log, "its first line")
    plane.unknown.add(attempt.key)
    await plane.cut()
    await plane.until_connected()
    beats = len(plane.heartbeats)
    await plane.until(lambda: len(plane.heartbeats) > beats + 2, "some heartbeats")
    assert plane.phases == [pb.HELD_PHASE_RUNNING]
    (state_dir / "workspaces" / f"{attempt.key[0]}.1" / "work" / "go").touch()
    await plane.until(lambda: plane.phases == [pb.HELD_PHASE_EXITED], "its end")
    assert (state_dir / "runs" / f"{attempt.key[0]}.1" / "exit").exists()


async def test_a_fenced_tree_is_killed_and_its_evidence_still_told(
    plane: FakeControlPlane, start_agent: StartAgent
) -> None:
    await start_agent()
    attempt = await plane.offer(command("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.02; done"))
    await plane.until(lambda: attempt.log, "its first line")
    await plane.say(fenced=pb.Fenced(key=wire_key(attempt.key), current_lease_epoch=2))
    await plane.until(lambda: attempt.released, "its release")
    assert attempt.exit is not None
    assert attempt.exit.tree_empty
    assert attempt.exit.signal == 9


async def test_drain_and_resume_by_the_server(plane: FakeControlPlane, start_agent: StartAgent) -> None:
    await start_agent()
    await plane.say(drain=pb.Drain())
    refused = await plane.offer(command("true"))
    await plane.until(lambda: refused.rejected is not None, "a refusal")
    await plane.say(resume=pb.Resume())
    taken = await plane.offer(command("true"))
    await plane.until(lambda: taken.released, "a run")


async def test_without_acks_no_more_than_64_kib_are_on_their_way_and_heartbeats_go_on(
    plane: FakeControlPlane, start_agent: StartAgent
) -> None:
    """So that on a slow link a heartbeat never waits behind megabytes."""
    await start_agent()
    plane.lose["log_chunk"] = 1_000_000
    attempt = await plane.offer(command("python3", "-c", LINES.format(n=500_000)))
    await plane.until(lambda: attempt.exit is not None, "its exit, which overtakes its log")
    beats = len(plane.heartbeats)
    await plane.until(lambda: len(plane.heartbeats) > beats + 10, "heartbeats")
    (entry,) = plane.heartbeats[-1].held
    assert entry.spooled_offset > 1 << 20
    assert plane.bytes_lost_since_heartbeat <= 64 << 10
    assert plane.furthest_offset <= 64 << 10
    plane.lose["log_chunk"] = 0
    await plane.until(lambda: attempt.released, "its release")
    assert bytes(attempt.log) == "".join(f"{i}\n" for i in range(500_000)).encode()
