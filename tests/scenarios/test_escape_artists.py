"""No tree escapes: not from a cancel, not past the end of its leader, not with the death of those who guard it."""

from __future__ import annotations

import os
import pathlib
import signal
from collections.abc import Iterator

import pytest
from banksman.v1 import run_pb2, spec_pb2

from tests.scenarios import troupe
from tests.scenarios.faults import lock_holder
from tests.scenarios.house import House
from tests.waiting import wait_for

KINDS = ("cgroups", "walk")
RETRY = spec_pb2.LossPolicy(on_lost=spec_pb2.ON_LOST_RETRY)


@pytest.fixture(scope="module")
def circus() -> Iterator[House]:
    """Two runners: one that uses cgroups where it may, one that walks the trees."""
    with House() as house:
        for kind in KINDS:
            agent = house.agent(kind, slots=len(troupe.SHAPES), labels={"kill": kind}, start=False)
            agent.argv += ["--no-cgroups"] if kind == "walk" else []
            agent.connect()
        yield house


def state(house: House, kind: str) -> pathlib.Path:
    """The state directory of a runner of the circus."""
    return house.root / f"r{KINDS.index(kind)}"


def kill(pids: set[int | None]) -> None:
    for pid in pids:
        if pid is not None:
            os.kill(pid, signal.SIGKILL)


def shims(house: House, kind: str, artists: list[troupe.Artist]) -> set[int | None]:
    """Who guards these runs."""
    return {
        lock_holder(path / "lock") for artist in artists for path in state(house, kind).glob(f"runs/{artist.run}.*")
    }


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_cancel_nothing_of_any_shape_is_left(circus: House, kind: str) -> None:
    artists = troupe.at_large(circus, labels={"kill": kind})
    assert troupe.survivors(artists) == [*troupe.SHAPES]
    for artist in artists:
        circus.cancel(artist.run)
    for shape, done in troupe.endings(circus, artists).items():
        assert (done.state, done.kill_confirmed) == (run_pb2.RUN_STATE_CANCELLED, True), shape
        assert done.attempts[0].survivors_killed >= 1, shape
    assert troupe.survivors(artists) == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_leader_leaves_behind_is_killed_and_counted(circus: House, kind: str) -> None:
    artists = troupe.at_large(circus, then="leave", labels={"kill": kind})
    for shape, done in troupe.endings(circus, artists).items():
        assert (done.state, done.exit_code, done.kill_confirmed) == (run_pb2.RUN_STATE_SUCCEEDED, 0, True), shape
        assert done.attempts[0].survivors_killed >= 1, shape
        assert circus.log(done.id) == b"ready\n"
    assert troupe.survivors(artists) == []


@pytest.mark.parametrize("kind", KINDS)
def test_when_every_shim_is_killed_its_tree_dies_and_the_kernel_says_so(circus: House, kind: str) -> None:
    artists = troupe.at_large(circus, labels={"kill": kind})
    kill(shims(circus, kind, artists))
    for shape, done in troupe.endings(circus, artists).items():
        assert (done.state, done.reason) == (run_pb2.RUN_STATE_LOST, run_pb2.REASON_SHIM_DIED), shape
        assert done.kill_confirmed, shape
        assert circus.log(done.id) in (b"ready\n", b""), "what no shim had read from the pipe died with it"
    assert troupe.survivors(artists) == []


@pytest.mark.parametrize("kind", KINDS)
def test_without_their_fork_server_they_live_on_and_a_cancel_still_works(circus: House, kind: str) -> None:
    artists = troupe.at_large(circus, labels={"kill": kind})
    kill({lock_holder(state(circus, kind) / "fork.lock")})
    assert troupe.survivors(artists) == [*troupe.SHAPES]
    for artist in artists:
        circus.cancel(artist.run)
    for shape, done in troupe.endings(circus, artists).items():
        assert (done.state, done.kill_confirmed) == (run_pb2.RUN_STATE_CANCELLED, True), shape
    assert troupe.survivors(artists) == []


@pytest.mark.parametrize("kind", KINDS)
def test_when_shims_and_fork_server_are_killed_nothing_is_claimed_without_proof(circus: House, kind: str) -> None:
    artists = troupe.at_large(circus, labels={"kill": kind}, loss=RETRY if kind == "walk" else None)
    kill({lock_holder(state(circus, kind) / "fork.lock")})
    kill(shims(circus, kind, artists))
    ends = troupe.endings(circus, artists)
    alive = troupe.survivors(artists)
    for shape, done in ends.items():
        assert (done.state, done.reason) == (run_pb2.RUN_STATE_LOST, run_pb2.REASON_SHIM_DIED), shape
        assert not (done.kill_confirmed and shape in alive), f"a false kill_confirmed: {shape}"
        assert len(done.attempts) == 1, "no automatic retry where something may be left"
    proven = all(done.kill_confirmed for done in ends.values())
    assert proven or not any(done.kill_confirmed for done in ends.values())
    # Without a cgroup, only what shows the run's cookie can be found.
    assert set(alive) <= (set() if proven else {"cleared_environment"})


def test_a_guard_is_back_for_the_runs_after_that(circus: House) -> None:
    for kind in KINDS:
        (artist,) = troupe.at_large(circus, ["double_forked"], labels={"kill": kind})
        fork_server = wait_for(lambda kind=kind: lock_holder(state(circus, kind) / "fork.lock"), what="a fork server")
        kill(shims(circus, kind, [artist]))
        done = circus.wait(artist.run)
        assert (done.reason, done.kill_confirmed) == (run_pb2.REASON_SHIM_DIED, True)
        assert not artist.survives
        assert lock_holder(state(circus, kind) / "fork.lock") == fork_server
