"""A dress rehearsal: real attempts of a program that does next to nothing, in the fork server, before its first fork.

Python settles only after some calls on how it runs a function, remembers where it found an attribute, and links a
library's function when it is first called; each of these writes to memory that a shim would have to copy first. What
was done before the fork no shim does again. It costs a tenth of a second once, and saves each attempt a quarter of its
processor time.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import time

from runner_agent.shim import attempt_files, codec, files, protocol
from runner_agent.shim.messages import AttemptStart, StepStart
from runner_agent.shim.serve import wait_and_serve
from runner_agent.shim.starter import Starter

ROUNDS = 8  # after these it has settled; more save nothing
PATIENCE_S = 1.0  # a slow disk shortens the play, it must not delay the agent's start
SYNC_S = 0.1  # where one sync takes longer, a single attempt would be a delay already: each has half a dozen of them
STAGE = "rehearsal"
_NAME = "attempt"
# One that prints is the usual one.
_STEP = StepStart(argv=("/bin/sh", "-c", "echo rehearsal"), env={"PATH": "/usr/bin:/bin"}, cwd="/", timeout_s=2.0)


def rehearse_dressed(*, use_cgroups: bool) -> None:
    """Play in a directory of its own below the current one, and leave nothing behind: no file, process, descriptor.

    For a process without children that no signal is asked of yet. If it fails, only what it would save is lost.
    """
    home = os.getcwd()
    open_before = _descriptors()
    deadline_s = time.monotonic() + PATIENCE_S
    try:
        _clear(home)  # an earlier one may have been killed
        for played in range(ROUNDS):
            too_slow = time.monotonic() > deadline_s or (not played and _syncs_slowly())
            if too_slow or not _play(home, use_cgroups=use_cgroups):
                break
            _clear(home)
    except Exception as error:  # noqa: BLE001 - without a fork server no run could be started
        os.write(2, f"fork server: the rehearsal failed: {error}\n".encode())
    finally:
        signal.set_wakeup_fd(-1)
        gc.collect()  # who still owns a descriptor must not close it when it is another's
        for descriptor in _descriptors() - open_before:
            with contextlib.suppress(OSError):  # the one that listed them
                os.close(descriptor)
        with contextlib.suppress(OSError):
            _clear(home)


def _descriptors() -> set[int]:
    return set(map(int, os.listdir("/proc/self/fd")))


def _syncs_slowly() -> bool:
    """Whether the disk takes its time now. Makes the stage, so that there is something to sync."""
    os.mkdir(STAGE, 0o700)
    began_s = time.monotonic()
    files.sync_directory(STAGE)
    return time.monotonic() - began_s > SYNC_S


def _play(home: str, *, use_cgroups: bool) -> bool:
    """One attempt, from the start message to the exit record; whether there is one."""
    stage = f"{home}/{STAGE}"
    os.makedirs(f"{stage}/{attempt_files.RUNS}/{_NAME}", mode=0o700)
    pid = os.getpid()
    place = attempt_files.Place(
        state_directory=stage, name="", shim_pid=pid, shim_start_time=files.start_time(pid), guard_pid=pid,
        guard_start_time=None, boot_id=files.boot_id(), oom_score="", use_cgroups=use_cgroups,
    )  # fmt: skip
    start = AttemptStart(
        run_id=STAGE, epoch=1, steps=(_STEP,), cookie=os.urandom(12).hex(), grace_s=0.0, result_path=f"{stage}/result",
        loss_deadline_boottime_ns=(1 << 63) - 1,
    )  # fmt: skip
    agent, ours = socket.socketpair()
    guard, channel = socket.socketpair()
    with agent, guard, channel:
        agent.sendall(protocol.encode_frame("start", {"start": codec.to_json(start)}))
        with ours:
            socket.send_fds(guard, [_NAME.encode()], [ours.fileno()])
        wait_and_serve(channel, place, Starter.fork(use_cgroups=use_cgroups, oom_score=""))
    return os.path.exists("exit")


def _clear(home: str) -> None:
    os.chdir(home)
    for directory, _, names in os.walk(STAGE, topdown=False):
        for name in names:
            os.unlink(f"{directory}/{name}")
        os.rmdir(directory)
