"""Many runs through one agent: every one once, nothing left behind."""

from __future__ import annotations

import os
from pathlib import Path

from tests.fakes.control_plane import FakeControlPlane, command
from tests.integration.agent.conftest import StartAgent
from tests.integration.agent.program import processes_of


async def test_a_hundred_runs_leave_no_process_descriptor_or_directory(
    plane: FakeControlPlane, start_agent: StartAgent, state_dir: Path
) -> None:
    agent = await start_agent("--slots", "8")
    warm = await plane.offer(command("true"))
    await plane.until(lambda: warm.released and plane.nothing_held, "a first run")
    before = len(os.listdir(f"/proc/{agent.pid}/fd"))
    idle = len(processes_of(state_dir))
    done = 0
    for batch in range(13):
        attempts = [await plane.offer(command("echo", f"{batch}.{each}")) for each in range(8)]
        # A slot may be free a moment later here than there: what was refused is offered again under its next epoch.
        for each, attempt in enumerate(attempts):
            while True:
                await plane.until(lambda attempt=attempt: attempt.released or attempt.rejected, "an end")
                if attempt.released:
                    break
                run_id, epoch = attempt.key
                attempt = await plane.offer(command("echo", f"{batch}.{each}"), run_id=run_id, epoch=epoch + 1)
            assert bytes(attempt.log) == f"{batch}.{each}\n".encode()
            assert attempt.starts == 1
            done += 1
    assert done == 104
    beats = len(plane.heartbeats)
    await plane.until(lambda: plane.nothing_held and len(plane.heartbeats) > beats + 1, "an empty held set")
    assert len(os.listdir(f"/proc/{agent.pid}/fd")) <= before + 2
    # Shims that were forked ahead for the burst leave when it is over.
    await plane.until(lambda: len(processes_of(state_dir)) <= idle + 1, "no more processes than at first")
    assert [path.name for path in (state_dir / "runs").iterdir()] == ["quarantine"]
    assert list((state_dir / "workspaces").iterdir()) == []
