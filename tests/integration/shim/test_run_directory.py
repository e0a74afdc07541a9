"""Run directories: acceptance, scans, quarantine and release, without any process."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner_agent.execution.removal import Leftover, Removal
from runner_agent.execution.run_directory import Acceptance, Standing, StateDirectory, StillLive
from runner_agent.shim import attempt_files, files
from runner_agent.shim.messages import Outcome
from runner_agent.shim.remains import never_executed
from runner_agent.workspace.workspaces import Workspaces


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    """A fresh state directory."""
    return StateDirectory.open(tmp_path / "state")


def test_its_id_is_made_once_and_stays(tmp_path: Path) -> None:
    first = StateDirectory.open(tmp_path / "state")
    first.close()
    second = StateDirectory.open(tmp_path / "state")
    other = StateDirectory.open(tmp_path / "other")
    assert first.id == second.id != other.id
    assert len(first.id) == 32


def test_an_acceptance_is_listed_untouched_however_often_one_looks(state: StateDirectory) -> None:
    path = state.accept("run", 7, {"slots": 3})
    assert state.accept("run", 7, {"slots": 4}) == path
    for _ in range(2):
        (entry,) = state.scan()
        assert (entry.standing, entry.run_id, entry.epoch, entry.details) == (Standing.ACCEPTED, "run", 7, {"slots": 3})
    assert not (path / "tombstone").exists()


def test_an_acceptance_that_an_earlier_version_never_finished_is_none(state: StateDirectory) -> None:
    (state.runs / "run.1").mkdir()
    (state.runs / "run.1" / "accept.tmp").write_bytes(b"{")
    assert state.scan() == ()
    assert not (state.runs / "run.1").exists()


def test_an_unusual_acceptance_has_its_name_only_when_it_is_whole(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as full:
        full.setattr("runner_agent.execution.run_directory.files.write_once", fail)
        with pytest.raises(OSError, match="no room"):
            state.accept("run", 1, {"slots": 2})
    assert state.scan() == ()
    state.accept("run", 1, {"slots": 2})
    assert [entry.details for entry in state.scan()] == [{"slots": 2}]


@pytest.mark.parametrize("names", [(), ("lock",), ("agent",), ("lock", "agent.tmp", "identity.tmp")])
def test_the_directory_alone_is_the_acceptance(state: StateDirectory, names: tuple[str, ...]) -> None:
    path = state.accept("run", 1, {"slots": 1})
    assert not (path / "accept").exists()
    for name in names:
        (path / name).write_bytes(b"")
    (entry,) = state.scan()
    assert (entry.standing, entry.details) == (Standing.ACCEPTED, {})


def test_a_tombstone_beside_nothing_else_ends_it(state: StateDirectory) -> None:
    path = state.accept("run", 1, {"slots": 1})
    files.write_once(str(path), "tombstone", b"{}")
    (entry,) = state.scan()
    assert entry.record is not None
    assert (entry.standing, entry.record.outcome) == (Standing.EXITED, Outcome.NOT_STARTED)


def test_many_acceptances_cost_one_sync(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    many = [Acceptance(run_id="run", epoch=epoch, details={"slots": 1}) for epoch in range(1, 9)]
    assert state.accept_all(many) == [None] * 8
    assert len(synced) == 1
    assert len(state.scan()) == 8


def test_what_a_killed_agent_has_not_synced_lasts_before_it_is_told_of(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.path_of("run", 1).mkdir()
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    (entry,) = state.scan()
    assert (entry.standing, synced) == (Standing.ACCEPTED, [str(state.runs)])


def test_an_acceptance_that_is_not_synced_was_not_made(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "gone")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="gone"):
        state.accept("run", 1, {"slots": 1})


def test_a_prepared_attempt_without_identity_was_not_started_and_never_will_be(state: StateDirectory) -> None:
    path = state.accept("run", 1, {})
    files.write_once(str(path), "spec", b"{}")
    (entry,) = state.scan()
    assert entry.record is not None
    assert (entry.standing, entry.record.outcome) == (Standing.EXITED, Outcome.NOT_STARTED)
    assert (path / "tombstone").exists()
    assert state.scan()[0].record == entry.record


def test_a_held_lock_is_a_live_attempt_and_is_not_released(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner_agent.execution.run_directory.RELEASE_WAIT_S", 0.0)
    path = state.accept("run", 1, {})
    lock = files.try_lock(str(path / "lock"))
    assert lock is not None
    assert state.scan()[0].standing is Standing.LIVE
    with pytest.raises(StillLive):
        state.release("run", 1)
    os.close(lock)
    state.release("run", 1)
    state.release("run", 1)
    assert state.scan() == ()
    assert sorted(entry.name for entry in state.runs.iterdir()) == ["quarantine"]


@pytest.mark.parametrize(
    ("name", "content"), [("accept", b"{"), ("exit", b"[]"), ("exit", b'{"version": 9}'), ("identity", b'{"pid": 1}')]
)
def test_what_cannot_be_read_is_set_aside_with_a_message(state: StateDirectory, name: str, content: bytes) -> None:
    path = state.accept("run", 5, {})
    (path / name).write_bytes(content)
    good = state.accept("run", 6, {})
    entries = {(entry.run_id, entry.epoch): entry for entry in state.scan()}
    assert entries["run", 6].path == good
    aside = entries["run", 5]
    assert (aside.standing, aside.path.parent.name) == (Standing.QUARANTINED, "quarantine")
    assert aside.message
    assert not path.exists()
    again = {(entry.run_id, entry.epoch): entry for entry in state.scan()}
    assert again["run", 5].message == aside.message
    state.accept("run", 5, {})  # a namesake later finds its place free
    (state.path_of("run", 5) / "accept").write_bytes(b"{")
    assert [entry.standing for entry in state.scan()].count(Standing.QUARANTINED) == 2


def test_what_somebody_else_has_put_there_is_never_removed(state: StateDirectory) -> None:
    foreign = state.runs / "backup.2"
    foreign.mkdir()
    (foreign / "precious").write_text("mine")
    (entry,) = state.scan()
    assert (entry.standing, (entry.path / "precious").read_text()) == (Standing.QUARANTINED, "mine")
    assert "no run directory" in entry.message


def test_a_stray_file_does_not_hide_how_an_attempt_ended(state: StateDirectory) -> None:
    path = state.accept("run", 1, {})
    files.write_exit(str(path), attempt_files.encode_record(never_executed("run", 1, 5)))
    (path / "note-of-an-operator").write_text("?")
    (entry,) = state.scan()
    assert (entry.standing, entry.path) == (Standing.EXITED, path)
    assert entry.record is not None
    assert entry.record.ended_at_ns == 5


@pytest.mark.parametrize(
    "change",
    [
        {"pid": 1 << 70}, {"pid": -1}, {"pid": 0}, {"cookie": "\ud800"}, {"cookie": ""}, {"cgroup": "/tmp/\0"},
        {"guard_pid": 1 << 70, "guard_start_time": 5}, {"start_time": -1}, {"boot_id": "\ud800"},
    ],
)  # fmt: skip
def test_a_damaged_identity_never_stops_the_agent(state: StateDirectory, change: dict[str, object]) -> None:
    path = state.accept("run", 1, {})
    identity = {
        "run_id": "run", "epoch": 1, "pid": 2**22 + 1, "boot_id": files.boot_id(), "cookie": "c" * 32, "start_time": 1,
    }  # fmt: skip
    (path / "identity").write_text(json.dumps({**identity, **change}))
    (entry,) = state.scan()
    assert entry.standing in (Standing.EXITED, Standing.QUARANTINED)
    if entry.record is not None:
        assert not entry.record.kill_confirmed or entry.record.outcome is Outcome.HOST_REBOOTED


def test_a_damaged_directory_does_not_end_the_removal_of_others(state: StateDirectory, tmp_path: Path) -> None:
    parent = tmp_path / "cgroup"
    parent.mkdir()
    (parent / "cgroup.procs").touch()
    damaged = state.accept("run", 1, {})
    (damaged / "identity").write_text(json.dumps({"cgroup": f"{parent}/banksman-\ud800"}))
    state.accept("run", 2, {})
    removal = Removal(state=state, workspaces=Workspaces(tmp_path))
    leftovers = [Leftover(run_id="run", epoch=epoch, workspace=False) for epoch in (1, 2)]
    assert removal.remove_all(leftovers) == [None, None]
    assert state.scan() == ()


def test_directories_of_any_depth_in_a_run_directory_go_too(state: StateDirectory) -> None:
    path = state.accept("run", 1, {})
    here = os.open(path, os.O_RDONLY)
    for _ in range(sys.getrecursionlimit() + 100):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    gone = state.runs / ".gone-run.1"
    path.rename(gone)  # as an agent leaves it that is killed while it releases
    assert state.scan() == ()
    assert not gone.exists()


def test_an_identity_names_no_directory_that_is_not_ours_to_remove(state: StateDirectory, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    path = state.accept("run", 1, {})
    identity = {"run_id": "run", "epoch": 1, "pid": 2**22 + 1, "boot_id": files.boot_id(), "cookie": "c" * 32}
    (path / "identity").write_text(json.dumps({**identity, "cgroup": str(precious)}))
    (entry,) = state.scan()
    assert entry.record is not None
    assert not entry.record.kill_confirmed, "a directory that could be removed is no proof"
    state.release("run", 1)
    assert precious.is_dir()


@pytest.mark.parametrize("name", ["accept", "spec", "identity", "exit", "stop", "tombstone", "agent", "lock", "swept"])
def test_a_file_that_is_a_directory_stops_nothing(state: StateDirectory, name: str) -> None:
    path = state.accept("run", 1, {})
    (path / name).unlink(missing_ok=True)
    (path / name).mkdir()
    good = state.accept("run", 2, {})
    for _ in range(2):
        found = {entry.epoch: entry for entry in state.scan()}
        assert found[2].path == good
        assert found[1].standing in (Standing.QUARANTINED, Standing.EXITED, Standing.ACCEPTED, Standing.LIVE)


@given(st.sampled_from(["accept", "spec", "identity", "exit", "stop"]), st.integers(0, 1 << 12), st.integers(0, 7))
@settings(max_examples=80, deadline=None)
def test_no_flipped_bit_stops_the_agent(
    tmp_path_factory: pytest.TempPathFactory, name: str, where: int, bit: int
) -> None:
    state = StateDirectory.open(tmp_path_factory.mktemp("flip") / "state")
    path = state.accept("run", 1, {"slots": 3})
    whole = {
        "spec": {"version": 1}, "stop": {"reason": "USER_CANCEL", "at_ns": 1},
        "identity": {
            "version": 1, "run_id": "run", "epoch": 1, "pid": 2**22 + 7, "start_time": 4, "boot_id": "another boot",
            "cookie": "c" * 24, "cgroup": None, "shim_pid": 2**22 + 3, "guard_pid": 2**22 + 5, "guard_start_time": 9,
        },
    }  # fmt: skip
    for file, body in whole.items():
        (path / file).write_text(json.dumps(body))
    if name == "exit":
        state.scan()  # which writes it
    data = bytearray((path / name).read_bytes())
    data[where % len(data)] ^= 1 << bit
    (path / name).write_bytes(data)
    good = state.accept("run", 2, {})
    found = {entry.epoch: entry for entry in state.scan()}
    assert found[2].path == good
    assert found[1].standing in (Standing.EXITED, Standing.QUARANTINED)
    state.close()


def test_strange_names_are_set_aside_too(state: StateDirectory) -> None:
    (state.runs / "stray").write_text("a file")
    (state.runs / "no-epoch").mkdir()
    (state.runs / "no-epoch" / "spec").write_text("{}")
    assert {(entry.path.name, entry.standing) for entry in state.scan()} == {
        ("stray", Standing.QUARANTINED), ("no-epoch", Standing.QUARANTINED),
    }  # fmt: skip


def test_a_live_attempt_is_never_moved(state: StateDirectory) -> None:
    path = state.accept("run", 1, {})
    (path / "accept").write_bytes(b"{")
    lock = files.try_lock(str(path / "lock"))
    (entry,) = state.scan()
    assert (entry.standing, entry.path, entry.epoch) == (Standing.LIVE, path, 1)
    assert lock is not None
    os.close(lock)


def test_a_full_disk_sets_nothing_aside(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    path = state.accept("run", 1, {})
    files.write_once(str(path), "spec", b"{}")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_once", full)
        (entry,) = state.scan()
    assert (entry.standing, entry.path) == (Standing.LIVE, path), "it is looked at again, not set aside"
    (entry,) = state.scan()
    assert entry.standing is Standing.EXITED


def test_a_half_removed_directory_is_removed(state: StateDirectory) -> None:
    gone = state.runs / ".gone-run.1"
    gone.mkdir()
    (gone / "spool.0").write_text("x")
    assert state.scan() == ()
    assert not gone.exists()
