"""Attempts from offer to release, with a real agent, real shims and a fake control plane over real gRPC."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from banksman.v1 import log_pb2 as log
from banksman.v1 import run_pb2 as run
from banksman.v1 import session_pb2 as pb
from banksman.v1 import spec_pb2 as spec
from google.protobuf.duration_pb2 import Duration

from tests.fakes.control_plane import FakeControlPlane, command, shell
from tests.integration.agent.conftest import StartAgent


def everything_forgotten(plane: FakeControlPlane, state_dir: Path) -> bool:
    """The held set is empty, and so is the disk."""
    left = [path.name for path in (state_dir / "runs").iterdir() if path.name != "quarantine"]
    return plane.nothing_held and not left


async def test_a_run_goes_from_offer_to_release_and_its_log_is_identical(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    await start_agent()
    attempt = await plane.offer(command("printf", r"\000\377one\r\ntwo"))
    await plane.until(lambda: attempt.released, "its release")
    assert attempt.exit is not None
    assert attempt.exit.outcome == pb.EXIT_OUTCOME_ENDED_WELL
    assert (attempt.exit.exit_code, attempt.exit.tree_empty) == (0, True)
    assert bytes(attempt.log) == b"\x00\xffone\r\ntwo"
    assert attempt.starts == 1
    await plane.until(lambda: everything_forgotten(plane, state_dir), "an empty held set")
    assert list((state_dir / "workspaces").iterdir()) == []


async def test_the_child_gets_its_environment_and_nothing_of_the_agents(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    await start_agent(PATH=os.environ["PATH"], BANKSMAN_RUNNER_LABELS="zone=a", AGENT_ONLY="secret-of-the-agent")
    given = command("env")
    given.env.add(name="GREETING", value="hello")
    given.env.add(name="WHO", value="spec")
    given.env.add(name="TOKEN", secret_ref="api")
    given.steps[0].env.add(name="WHO", value="step")
    attempt = await plane.offer(given, secret_values={"api": b"s3cr3t-value"})
    await plane.until(lambda: attempt.released, "its release")
    env = dict(line.split("=", 1) for line in attempt.log.decode().splitlines())
    assert env["GREETING"] == "hello"
    assert env["WHO"] == "step"
    assert env["TOKEN"] != "s3cr3t-value"
    assert b"s3cr3t-value" not in attempt.log
    assert env["BANKSMAN_RUN_ID"] == attempt.key[0]
    assert (env["BANKSMAN_TASK"], env["BANKSMAN_PROJECT"], env["BANKSMAN_RUNNER"]) == ("a-task", "default", "r-1")
    assert env["BANKSMAN_WORKSPACE"] == str(state_dir / "workspaces" / f"{attempt.key[0]}.1" / "work")
    assert env["BANKSMAN_ATTEMPT"] == "1"
    assert {"BANKSMAN_SOCKET", "BANKSMAN_COOKIE", "PATH", "HOME"} <= env.keys()
    assert "AGENT_ONLY" not in env
    assert not [name for name in env if name.startswith("BANKSMAN_RUNNER_")]


async def test_a_script_runs_in_a_workspace_that_is_fresh_and_empty(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    await start_agent()
    attempt = await plane.offer(shell("ls -A; pwd; cat; mkdir sub && ln -s /etc sub/link; chmod 000 sub"))
    attempt_2 = await plane.offer(
        spec.RunSpec(
            steps=[
                spec.Step(
                    kind=spec.STEP_KIND_MAIN,
                    command=spec.Command(
                        script="import sys, os\nprint(os.getcwd())\nprint(sys.stdin.read())",
                        interpreter=["python3", "-I"],
                        working_directory="..",
                        stdin=b"given",
                    ),
                )
            ]
        )
    )
    await plane.until(lambda: attempt.released, "the first release")
    workspaces = state_dir / "workspaces"
    assert attempt.log.decode() == f"{workspaces / attempt.key[0]}.1/work\n"
    await plane.until(lambda: not (workspaces / f"{attempt.key[0]}.1").exists(), "its workspace's removal")
    if not attempt_2.released:
        assert attempt_2.rejected is not None, "one slot: the second offer is refused while the first runs"
    assert Path("/etc/passwd").exists()


def main_step(name: str, *argv: str, always: bool = False) -> spec.Step:
    return spec.Step(kind=spec.STEP_KIND_MAIN, name=name, always=always, command=spec.Command(argv=argv))


async def test_steps_run_one_after_the_other_and_are_told(plane: FakeControlPlane, start_agent: StartAgent) -> None:
    await start_agent()
    two = spec.RunSpec(
        steps=[
            main_step("first", "sh", "-c", "echo one; exit 3"),
            main_step("skipped", "echo", "never"),
            main_step("last", "echo", "two", always=True),
        ]
    )
    attempt = await plane.offer(two)
    await plane.until(lambda: attempt.released, "its release")
    assert attempt.exit is not None
    assert (attempt.exit.outcome, attempt.exit.reason) == (pb.EXIT_OUTCOME_ENDED_BADLY, run.REASON_EXIT_NONZERO)
    assert attempt.exit.exit_code == 3
    assert bytes(attempt.log) == b"one\ntwo\n"
    assert {(step.index, step.name) for step in attempt.exit.steps} >= {(0, "first"), (2, "last")}
    assert {step.index for step in attempt.steps} >= {0}, "told at once; the last one with the exit record"


async def test_streams_are_told_apart(plane: FakeControlPlane, start_agent: StartAgent) -> None:
    await start_agent()
    attempt = await plane.offer(command("sh", "-c", "echo out; echo err >&2"))
    await plane.until(lambda: attempt.released, "its release")
    assert attempt.text(log.LOG_KIND_STDOUT) == b"out\n"
    assert attempt.text(log.LOG_KIND_STDERR) == b"err\n"


async def test_a_program_that_does_not_exist_fails_to_start_for_good(
    plane: FakeControlPlane, start_agent: StartAgent
) -> None:
    await start_agent()
    attempt = await plane.offer(command("no-such-program-anywhere"))
    await plane.until(lambda: attempt.released, "its release")
    assert attempt.exit is not None
    assert (attempt.exit.outcome, attempt.exit.reason) == (pb.EXIT_OUTCOME_START_FAILED, run.REASON_SPAWN_FAILED)
    assert attempt.exit.permanent
    assert "no-such-program-anywhere" in attempt.exit.error_message
    assert attempt.starts == 0


async def test_a_secret_without_a_value_fails_to_start(plane: FakeControlPlane, start_agent: StartAgent) -> None:
    await start_agent()
    given = command("true")
    given.env.add(name="TOKEN", secret_ref="gone")
    attempt = await plane.offer(given)
    await plane.until(lambda: attempt.released, "its release")
    assert attempt.exit is not None
    assert (attempt.exit.outcome, attempt.exit.reason) == (
        pb.EXIT_OUTCOME_START_FAILED,
        run.REASON_SECRET_UNAVAILABLE,
    )
    assert "gone" in attempt.exit.error_message


async def test_a_large_log_is_identical_and_never_more_than_the_window_is_on_its_way(
    plane: FakeControlPlane, start_agent: StartAgent
) -> None:
    plane.window_bytes = 256 << 10
    await start_agent("--slots", "2")
    lines = 'import sys; sys.stdout.buffer.write(b"".join(b"%d %099d\\n" % (i, i) for i in range(60000)))'
    first = await plane.offer(command("python3", "-c", lines))
    second = await plane.offer(command("python3", "-c", lines))
    await plane.until(lambda: first.released and second.released, "both releases")
    expected = b"".join(b"%d %099d\n" % (i, i) for i in range(60000))
    assert bytes(first.log) == expected
    assert bytes(second.log) == expected
    assert max(size for _, _, size in plane.chunks) <= 64 << 10


@pytest.mark.parametrize("stop_signal", ["SIGTERM", "SIGINT"])
async def test_a_cancel_ends_the_tree_and_its_phases_are_told(
    plane: FakeControlPlane, start_agent: StartAgent, stop_signal: str
) -> None:
    await start_agent()
    attempt = await plane.offer(command("sleep", "600"))
    await plane.until(lambda: attempt.state == "RUNNING", "its start")
    await plane.cancel(attempt, signal=stop_signal)
    await plane.until(lambda: attempt.released, "its release")
    assert attempt.exit is not None
    assert attempt.exit.stopped_by == run.REASON_USER_CANCEL
    assert attempt.exit.signal == {"SIGTERM": 15, "SIGINT": 2}[stop_signal]
    assert attempt.exit.tree_empty
    assert run.STOP_PHASE_RECEIVED in attempt.stop_phases
    assert run.STOP_PHASE_SIGNALLED in attempt.stop_phases


async def test_a_cancel_before_the_assignment_ends_an_attempt_that_never_started(
    plane: FakeControlPlane, start_agent: StartAgent
) -> None:
    await start_agent()
    plane.lose[">assignment"] = 1
    plane.heartbeat_s = 60.0  # no verdict heals it meanwhile
    attempt = await plane.offer(command("echo", "never"))
    await plane.until(lambda: attempt.state == "STARTING", "its acceptance")
    await plane.cancel(attempt)
    await plane.until(lambda: attempt.released, "its release")
    assert attempt.exit is not None
    assert attempt.exit.outcome == pb.EXIT_OUTCOME_NOT_STARTED
    assert attempt.exit.stopped_by == run.REASON_USER_CANCEL
    assert attempt.exit.tree_empty
    assert bytes(attempt.log) == b""


async def test_timeouts_fire_on_the_host(plane: FakeControlPlane, start_agent: StartAgent) -> None:
    await start_agent("--slots", "2")
    run_out = await plane.offer(command("sleep", "600", timeout=Duration(seconds=1)))
    idle = await plane.offer(command("sleep", "600", idle_timeout=Duration(seconds=1)))
    await plane.until(lambda: run_out.released and idle.released, "both releases")
    assert run_out.exit is not None
    assert idle.exit is not None
    assert run_out.exit.stopped_by == run.REASON_RUN_TIMEOUT
    assert idle.exit.stopped_by == run.REASON_IDLE_TIMEOUT


async def test_an_offer_without_a_free_slot_is_refused(plane: FakeControlPlane, start_agent: StartAgent) -> None:
    await start_agent()
    first = await plane.offer(command("sleep", "600"))
    await plane.until(lambda: first.state == "RUNNING", "its start")
    second = await plane.offer(command("true"))
    too_big = await plane.offer(command("true"), slots=2)
    await plane.until(lambda: second.rejected is not None and too_big.rejected is not None, "two refusals")
    assert second.rejected is not None
    assert too_big.rejected is not None
    assert second.rejected.reject_reason == pb.REJECT_REASON_NO_SLOT
    assert too_big.rejected.reject_reason == pb.REJECT_REASON_UNSUPPORTED
    await plane.cancel(first)
    await plane.until(lambda: first.released, "the first one's release")
    third = await plane.offer(command("true"))
    await plane.until(lambda: third.released, "a run in the slot that is free again")


async def test_an_acceptance_that_cannot_be_written_is_a_refusal(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    await start_agent()
    (state_dir / "runs" / "blocked.1").write_text("a file stands where the run directory should be made")
    attempt = await plane.offer(command("true"), run_id="blocked")
    await plane.until(lambda: attempt.rejected is not None, "its refusal")
    assert attempt.rejected is not None
    assert attempt.rejected.reject_reason == pb.REJECT_REASON_IO_ERROR


async def test_a_full_disk_refuses_offers(plane: FakeControlPlane, start_agent: StartAgent) -> None:
    await start_agent("--min-disk-free-bytes", str(1 << 60))
    attempt = await plane.offer(command("true"))
    await plane.until(lambda: attempt.rejected is not None, "its refusal")
    assert attempt.rejected is not None
    assert attempt.rejected.reject_reason == pb.REJECT_REASON_LOW_DISK


async def test_a_second_assignment_starts_nothing_twice(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    await start_agent()
    attempt = await plane.offer(command("sh", "-c", "echo once; until [ -e go ]; do sleep 0.02; done; echo end"))
    await plane.until(lambda: attempt.state == "RUNNING", "its start")
    await plane.say(assignment=attempt.assignment())
    await plane.say(assignment=attempt.assignment())
    (state_dir / "workspaces" / f"{attempt.key[0]}.1" / "work" / "go").touch()
    await plane.until(lambda: attempt.released, "its release")
    await plane.say(assignment=attempt.assignment())
    another = await plane.offer(command("true"))
    await plane.until(lambda: another.released, "a later run")
    assert bytes(attempt.text(log.LOG_KIND_STDOUT)) == b"once\nend\n"
    assert attempt.starts == 1
