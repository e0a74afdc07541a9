"""Where the run's socket is, when the state directory's own path is too long for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner_agent.shim import attempt_files


def place_in(state_directory: str) -> attempt_files.Place:
    return attempt_files.Place(
        state_directory=state_directory, name="run.1", shim_pid=1, shim_start_time=1, guard_pid=1, guard_start_time=1,
        boot_id="b", oom_score="", use_cgroups=False,
    )  # fmt: skip


def test_what_a_killed_shim_has_left_is_not_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_files, "_FALLBACK", f"{tmp_path}/bnk-")
    place = place_in("/" + 120 * "s")
    path = Path(place.make_run_socket_path())
    path.write_text("a socket")  # one that was killed while it waited, so that the attempt is still only accepted
    assert place.make_run_socket_path() == str(path)
    assert list(path.parent.iterdir()) == []


def test_what_is_in_the_way_for_another_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_files, "_FALLBACK", f"{tmp_path}/bnk-")
    place = place_in("/" + 120 * "s")
    (Path(place.make_run_socket_path()).parent / "another's").write_text("")
    with pytest.raises(FileExistsError):
        place.make_run_socket_path()
