"""What is said of a dead shim's log: it outlives a power cut, and no lost file keeps a run from its end."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from runner_agent.execution.shim_link import ShimGone
from runner_agent.shim import files, spool_format
from runner_agent.shim.messages import Outcome
from tests.integration.shim import trees
from tests.integration.shim.host import Host, Run, python


async def dead(host: Host) -> Run:
    """An attempt that has printed a line, and whose shim was killed."""
    run = await host.start(python(trees.DOUBLE_FORKED), run_id="run", epoch=3)
    await run.bytes_below(len(b"ready\n"))
    os.kill(run.link.shim_pid, signal.SIGKILL)
    await run.until(ShimGone)
    return run


async def test_what_is_said_of_a_dead_shims_log_outlives_a_power_cut(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await dead(host)
    synced: list[str] = []
    for name in ("fsync", "fdatasync"):
        real = getattr(os, name)

        def sync(descriptor: int, real: Callable[[int], None] = real) -> None:
            synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
            real(descriptor)

        monkeypatch.setattr(os, name, sync)
    record = host.state.settle("run", 3, patience_s=10).record
    assert record is not None
    assert record.final_offset == len(b"ready\n")
    before = synced[: synced.index(files.RESERVE)]
    assert spool_format.file_name(0) in before, f"an exit record counts bytes that a power cut may take: {synced}"


async def test_a_spool_that_the_disk_no_longer_gives_does_not_keep_a_run_from_its_end(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await dead(host)
    real = os.fdatasync

    def lost(descriptor: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.startswith("spool"):
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", lost)
    record = host.state.settle("run", 3, patience_s=10).record
    assert record is not None
    assert record.outcome is Outcome.SHIM_DIED
