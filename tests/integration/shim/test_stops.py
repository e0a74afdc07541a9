"""Stops, timeouts and what a leader leaves behind: dead, counted, and proven so by the kernel."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from runner_agent.execution.log_reader import STDOUT, SYSTEM
from runner_agent.execution.shim_link import Outcome, Phase, Reason, Started, StopPhase
from runner_agent.shim import tree
from runner_agent.shim.files import process_stat
from runner_agent.shim.verdict import stop_words
from tests.integration.shim import trees
from tests.integration.shim.host import Host, is_alive, python, shell, step


def _below(shim: int) -> list[int]:
    """Every live process below a shim."""
    found, waiting = [], [shim]
    while waiting:
        for pid in tree.children(waiting.pop()):
            waiting.append(pid)
            if is_alive(pid):
                found.append(pid)
    return found


@pytest.mark.parametrize("program", ["IGNORES_SIGTERM", "DOUBLE_FORKED", "HIDDEN", "BREEDING"])
async def test_nothing_survives_the_ladder(any_host: Host, program: str) -> None:
    run = await any_host.start(python(getattr(trees, program)))
    await run.bytes_below(len(b"ready\n"))
    members = _below(run.link.shim_pid)
    assert members
    run.link.stop(Reason.USER_CANCEL, signal.SIGTERM, 0.05)
    record = await run.end()
    assert [pid for pid in members if is_alive(pid)] == []
    assert run.pids() == []
    assert (record.stopped_by, record.reason) == (Reason.USER_CANCEL, Reason.USER_CANCEL)
    assert (record.signal, record.tree_empty, record.kill_confirmed) == (signal.SIGKILL, True, True)
    assert record.survivors_killed >= 1
    assert [mark.phase for mark in record.stop_marks] == [Phase.RECEIVED, Phase.SIGNALLED, Phase.KILLED]
    assert [event.phase for event in run.events if isinstance(event, StopPhase)] == list(Phase)


async def test_a_polite_program_ends_by_the_signal_alone(any_host: Host) -> None:
    run = await any_host.start(shell("trap 'echo bye; exit 5' USR1; echo ready; while :; do sleep 0.01; done"))
    await run.bytes_below(len("ready\n"))
    run.link.stop(Reason.USER_CANCEL, signal.SIGUSR1, 30)
    record = await run.end()
    assert run.log(STDOUT) == b"ready\nbye\n"
    assert (record.exit_code, record.stopped_by, record.survivors_killed) == (5, Reason.USER_CANCEL, 0)
    assert [mark.phase for mark in record.stop_marks] == [Phase.RECEIVED, Phase.SIGNALLED]
    assert record.kill_confirmed


async def test_the_grace_belongs_to_the_whole_tree(host: Host, tmp_path: Path) -> None:
    """The leader dies of the signal at once; a child that cleans up gets its time."""
    cleaned = tmp_path / "cleaned"
    child = f"trap 'sleep 0.3; touch {cleaned}; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    run = await host.start(python(f"import os; os.spawnlp(os.P_NOWAIT, 'sh', 'sh', '-c', {child!r}); os.read(0, 1);"
                                  "import signal; signal.pause()"))  # fmt: skip
    await run.bytes_below(len("ready\n"))
    run.link.stop(Reason.USER_CANCEL, signal.SIGTERM, 30)
    record = await run.end()
    assert cleaned.exists()
    assert (record.signal, record.survivors_killed, record.tree_empty) == (signal.SIGTERM, 0, True)


async def test_the_first_reason_wins_and_a_shorter_grace_escalates(host: Host) -> None:
    run = await host.start(python(trees.IGNORES_SIGTERM))
    await run.bytes_below(len("ready\n"))
    run.link.stop(Reason.USER_CANCEL, signal.SIGTERM, 3600)
    await run.until(StopPhase, phase=Phase.SIGNALLED)
    run.link.stop(Reason.SUPERSEDED, signal.SIGTERM, 3600)
    run.link.stop(Reason.DEADLINE_PASSED, signal.SIGTERM, 0)
    record = await run.end()
    assert record.stopped_by is Reason.USER_CANCEL
    assert record.signal == signal.SIGKILL
    assert (run.directory / "stop").exists()


async def test_no_step_follows_a_stop(host: Host) -> None:
    run = await host.start(shell("echo ready; sleep 1000"), shell("echo never", always=True))
    await run.bytes_below(len("ready\n"))
    run.link.stop(Reason.USER_CANCEL, signal.SIGTERM, 10)
    record = await run.end()
    assert [part.index for part in record.steps] == [0]
    assert run.log() == b"ready\n"


async def test_sigterm_to_the_shim_is_the_stop_without_a_version(host: Host) -> None:
    run = await host.start(step("sleep", "1000"))
    await run.until(Started)
    os.kill(run.link.shim_pid, signal.SIGTERM)
    record = await run.end()
    assert (record.stopped_by, record.signal) == (Reason.RUNNER_SHUTDOWN, signal.SIGTERM)


async def test_what_holds_the_pipe_after_the_leader_is_killed_and_counted(any_host: Host) -> None:
    record, run = await any_host.run(python(trees.LEAVES_A_HOLDER))
    assert (record.exit_code, record.survivors_killed, record.tree_empty) == (7, 1, True)
    assert (record.outcome, record.stopped_by) == (Outcome.ENDED_BADLY, None)
    assert run.log() == b"ready\n"
    assert run.pids() == []


async def test_what_closed_everything_is_killed_without_a_drain(any_host: Host) -> None:
    record, run = await any_host.run(python(trees.LEAVES_A_CLOSED_ONE), run_timeout_s=60)
    assert (record.exit_code, record.survivors_killed, record.tree_empty) == (0, 1, True)
    assert record.outcome is Outcome.ENDED_WELL
    assert run.pids() == []


async def test_a_leftover_does_not_reach_into_the_next_step(any_host: Host) -> None:
    record, run = await any_host.run(python(trees.LEAVES_A_CLOSED_ONE), shell("echo next"))
    assert run.log() == b"ready\nnext\n"
    assert (record.survivors_killed, len(record.steps)) == (1, 2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"run_timeout_s": 0.3}, Reason.RUN_TIMEOUT), ({"idle_timeout_s": 0.3}, Reason.IDLE_TIMEOUT)],
)
async def test_timeouts_stop_the_run(host: Host, changes: dict[str, float], reason: Reason) -> None:
    record, run = await host.run(shell("echo ready; sleep 1000"), grace_s=5.0, **changes)
    assert (record.stopped_by, record.reason, record.signal) == (reason, reason, signal.SIGTERM)
    assert run.log() == b"ready\n"
    assert run.log(SYSTEM) == f"banksman: stopping: {stop_words(reason)}\n".encode()
    assert record.kill_confirmed


async def test_output_keeps_an_idle_timeout_away(host: Host) -> None:
    record, _ = await host.run(
        shell("i=0; while [ $i -lt 40 ]; do echo $i; sleep 0.05; i=$((i+1)); done"), idle_timeout_s=1.0
    )
    assert (record.exit_code, record.stopped_by) == (0, None)


async def test_a_steps_own_timeout_stops_the_attempt(host: Host) -> None:
    record, _ = await host.run(step("sleep", "1000", timeout_s=0.2), shell("echo never"))
    assert (record.stopped_by, len(record.steps)) == (Reason.RUN_TIMEOUT, 1)


async def test_a_start_timeout_stops_preparation(host: Host) -> None:
    record, _ = await host.run(step("sleep", "1000", kind="SETUP"), shell("echo never"), start_timeout_s=0.2)
    assert (record.stopped_by, record.outcome) == (Reason.START_TIMEOUT, Outcome.NOT_STARTED)


async def test_a_failed_preparation_is_a_failed_start(host: Host) -> None:
    record, _ = await host.run(shell("exit 1", kind="CHECKOUT"), shell("echo never"))
    assert (record.outcome, record.reason, record.exit_code) == (Outcome.START_FAILED, Reason.CHECKOUT_FAILED, 1)


async def test_nothing_is_executed_after_the_loss_deadline(host: Host) -> None:
    record, run = await host.run(shell("echo never"), loss_deadline_boottime_ns=1)
    assert (record.outcome, record.reason, record.stopped_by) == (Outcome.NOT_STARTED, Reason.NOT_STARTED, None)
    assert (record.tree_empty, run.log()) == (True, b"")


async def test_the_loss_deadline_fires_and_a_renewal_moves_it(host: Host) -> None:
    soon = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 3600 * 10**9
    run = await host.start(shell("echo ready; sleep 1000"), loss_deadline_boottime_ns=soon)
    await run.bytes_below(len("ready\n"))
    run.link.renew(None)
    run.link.renew(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
    record = await run.end()
    assert (record.outcome, record.stopped_by) == (Outcome.ENDED_BADLY, Reason.RUNNER_LOST)
    assert record.kill_confirmed


async def test_the_child_dies_with_its_shim_even_before_anyone_sweeps(host: Host) -> None:
    run = await host.start(step("sleep", "1000"))
    started = await run.until(Started)
    child = started.pid  # type: ignore[union-attr]
    stat = process_stat(child)
    assert stat is not None
    assert stat.parent == run.link.shim_pid
    record = None
    run.link.stop(Reason.FORCED, signal.SIGKILL, 0)
    record = await run.end()
    assert record.signal == signal.SIGKILL
