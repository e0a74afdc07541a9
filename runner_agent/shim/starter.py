"""A child that was forked ahead and waits to be told what to become.

The shim forks one as its very first act: its memory is then still what the fork server shares, so that the shim copies
few pages twice. It holds no lock and no secret, and executes nothing before the barrier opens.
"""

from __future__ import annotations

import os
import time

from runner_agent.shim import cgroups, files
from runner_agent.shim.cgroup import Cgroup
from runner_agent.shim.child import wait_and_become
from runner_agent.shim.records import dataclass
from runner_agent.shim.streams import StepStreams


@dataclass(frozen=True, slots=True, kw_only=True)
class Starter:
    """A waiting child, its pipes, and its cgroup if it has one."""

    pid: int
    start_time: int | None
    streams: StepStreams
    cgroup: Cgroup | None

    @classmethod
    def fork(cls, *, use_cgroups: bool, oom_score: str) -> Starter:
        """Fork one. Raises OSError."""
        shim_pid = os.getpid()
        streams = StepStreams()
        # One per step: into a cgroup that was once killed, some kernels let nobody be born.
        name = cgroups.name_for(shim_pid, time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        pid, cgroup = cgroups.fork_in(cgroups.create(name) if use_cgroups else None)
        if pid == 0:
            wait_and_become(streams.child_ends, shim_pid, oom_score)
        streams.keep_own_ends()
        return cls(pid=pid, start_time=files.start_time(pid), streams=streams, cgroup=cgroup)

    def abandon(self) -> None:
        """It is not needed: let it go, and its cgroup as soon as it is gone."""
        self.streams.abandon()
        os.waitpid(self.pid, 0)
        if self.cgroup is not None:
            self.cgroup.remove()
