"""Is this state directory the one that it was, or a copy?"""

from __future__ import annotations

import shutil
from pathlib import Path

from runner_agent.execution.state_copy import identify


def made(path: Path, machine: Path) -> str:
    """A state directory with one attempt in it; its id."""
    (path / "runs" / "r.1").mkdir(parents=True)
    (path / "runs" / "quarantine").mkdir()
    machine.write_text("1234abcd\n")
    identifier, warning = identify(path, machine)
    assert not warning
    return identifier


def test_the_same_directory_keeps_its_id(tmp_path: Path) -> None:
    identifier = made(tmp_path / "s", tmp_path / "machine")
    assert identify(tmp_path / "s", tmp_path / "machine") == (identifier, "")


def test_a_directory_that_was_moved_is_the_same(tmp_path: Path) -> None:
    identifier = made(tmp_path / "s", tmp_path / "machine")
    (tmp_path / "s").rename(tmp_path / "t")
    assert identify(tmp_path / "t", tmp_path / "machine") == (identifier, "")
    assert (tmp_path / "t" / "runs" / "r.1").exists()


def test_a_copy_gets_an_id_of_its_own_and_its_attempts_are_set_aside(tmp_path: Path) -> None:
    identifier = made(tmp_path / "s", tmp_path / "machine")
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "s", copy)
    other, warning = identify(copy, tmp_path / "machine")
    assert other != identifier
    assert identifier in warning
    assert "1 attempts" in warning
    (aside,) = copy.glob("copied-*")
    assert (aside / "r.1").exists()
    assert not (copy / "runs").exists()
    (copy / "runs").mkdir()
    assert identify(copy, tmp_path / "machine") == (other, "")
    assert identify(tmp_path / "s", tmp_path / "machine") == (identifier, "")


def test_the_same_disk_in_another_machine_is_a_copy(tmp_path: Path) -> None:
    identifier = made(tmp_path / "s", tmp_path / "machine")
    (tmp_path / "machine").write_text("other\n")
    other, warning = identify(tmp_path / "s", tmp_path / "machine")
    assert other != identifier
    assert "copy" in warning


def test_a_directory_of_an_earlier_version_is_believed_once(tmp_path: Path) -> None:
    identifier = made(tmp_path / "s", tmp_path / "machine")
    (tmp_path / "s" / "place").unlink()
    assert identify(tmp_path / "s", tmp_path / "machine") == (identifier, "")
    shutil.copytree(tmp_path / "s", tmp_path / "copy")
    assert identify(tmp_path / "copy", tmp_path / "machine")[0] != identifier


def test_a_host_without_a_machine_id_goes_by_the_file_alone(tmp_path: Path) -> None:
    (tmp_path / "s" / "runs").mkdir(parents=True)
    identifier, _ = identify(tmp_path / "s", tmp_path / "none")
    assert identify(tmp_path / "s", tmp_path / "none") == (identifier, "")
