"""Shims that are forked ahead: how many, who gets them, what becomes of those that nobody needs."""

from __future__ import annotations

import errno
import itertools
import resource
import socket
from collections.abc import Iterator

import pytest

from runner_agent.shim.spares import MOST_SPARES, Shims


class Nursery(Shims):
    """Shims that are only numbers; each keeps its end of the channel."""

    def __init__(self) -> None:
        super().__init__("/nowhere", oom_score="", use_cgroups=False)
        self._pids = itertools.count(100)
        self.channels: dict[int, socket.socket] = {}
        self.forks = 0
        self.refused = False

    def _fork(self, connection: socket.socket, name: str) -> int:
        if self.refused:
            raise OSError(errno.EAGAIN, "no more processes")
        pid = next(self._pids)
        self.forks += 1
        self.names[pid] = name
        self.channels[pid] = connection.dup()
        return pid

    @property
    def spares(self) -> int:
        return len(self._spares)

    def begin(self, name: str, now_s: float) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.start(theirs, name, now_s)

    def close(self) -> None:
        self.dismiss_spares()
        for channel in self.channels.values():
            channel.close()


@pytest.fixture
def shims() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


def test_one_waits_ahead_and_gets_the_attempt(shims: Nursery) -> None:
    assert shims.wants_spares(5.0)
    shims.fork_spares(5.0)
    assert (shims.spares, shims.wants_spares(5.0), shims.at_work) == (1, False, False)
    shims.begin("run.1", 100.0)
    assert (shims.forks, shims.spares, shims.at_work) == (1, 0, True)
    (pid,) = shims.names
    assert shims.names[pid] == "run.1"
    name, descriptors, _, _ = socket.recv_fds(shims.channels[pid], 100, 1)
    assert name == b"run.1"
    assert len(descriptors) == 1
    socket.close(descriptors[0])


def test_without_a_spare_one_is_forked_for_the_attempt(shims: Nursery) -> None:
    shims.begin("run.1", 0.0)
    assert (shims.forks, list(shims.names.values())) == (1, ["run.1"])


def test_starts_in_close_order_get_several_ahead_and_forks_go_together(shims: Nursery) -> None:
    for number in range(MOST_SPARES + 2):
        shims.begin(f"run.{number}", 0.1 * number)
    before = shims.forks
    shims.fork_spares(0.6)
    assert shims.spares == shims.forks - before == MOST_SPARES
    shims.begin("run.a", 0.7)
    assert not shims.wants_spares(0.7), "one of several is gone: not yet"
    shims.begin("run.b", 0.7)
    shims.begin("run.c", 0.7)
    assert shims.wants_spares(0.7)


def test_later_one_is_enough_and_the_others_may_go(shims: Nursery) -> None:
    for number in range(MOST_SPARES):
        shims.begin(f"run.{number}", 0.1 * number)
    shims.fork_spares(0.5)
    shims.dismiss_spares(kept=1)
    assert shims.spares == 1
    assert not shims.wants_spares(60.0)


def test_a_spare_that_dies_is_no_spare_any_more(shims: Nursery) -> None:
    shims.fork_spares(5.0)
    (pid,) = shims.names
    assert shims.ended(pid, 5.0) == ""
    assert shims.ended(pid, 5.0) is None
    assert (shims.spares, shims.wants_spares(6.0)) == (0, True)


def test_what_has_ended_a_spare_is_not_tried_again_at_once(shims: Nursery) -> None:
    """Without it a host at its limit of processes is asked some fifty times a second, for ever."""
    shims.fork_spares(5.0)
    (pid,) = shims.names
    shims.ended(pid, 7.0)
    assert not shims.wants_spares(7.5)
    assert shims.wants_spares(8.0)


def test_the_end_of_one_that_had_an_attempt_is_no_refusal(shims: Nursery) -> None:
    shims.begin("run.1", 0.0)
    (pid,) = shims.names
    assert shims.ended(pid, 5.0) == "run.1"
    assert shims.wants_spares(5.0)


def test_a_spare_that_has_just_died_costs_no_start(shims: Nursery) -> None:
    shims.fork_spares(5.0)
    (pid,) = shims.names
    shims.channels[pid].close()
    shims.begin("run.1", 0.0)
    assert list(shims.names.values()) == ["", "run.1"], "the dead one is not reaped yet"


def test_a_refused_fork_is_not_tried_again_at_once(shims: Nursery) -> None:
    shims.refused = True
    shims.fork_spares(10.0)
    assert not shims.wants_spares(10.5)
    assert shims.wants_spares(11.0)


def test_without_descriptors_there_is_no_spare_and_the_guard_lives_on(shims: Nursery) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        shims.fork_spares(10.0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert shims.spares == 0
    assert not shims.wants_spares(10.5)
