"""Removing what a run has made: never through links, never into another mount, however deep or locked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from runner_agent.workspace.removal import MAX_DEPTH, mount_id, remove_tree
from runner_agent.workspace.workspaces import Workspaces


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "dir-link").symlink_to(outside)
    (tree / "file-link").symlink_to(outside / "precious")
    (tree / "loop").symlink_to(tree)
    remove_tree(str(tree))
    assert not tree.exists()
    assert (outside / "precious").read_text() == "kept"


def test_a_link_in_the_place_of_the_tree_is_removed_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    (tmp_path / "tree").symlink_to(outside)
    remove_tree(str(tmp_path / "tree"))
    assert not (tmp_path / "tree").is_symlink()
    assert (outside / "precious").exists()


def test_what_the_run_has_locked_is_opened(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").write_text("x")
    for path in (tree / "a" / "b", tree / "a", tree):
        path.chmod(0o000)
    remove_tree(str(tree))
    assert not tree.exists()


def test_deeper_than_there_are_descriptors(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    depth = 20 * MAX_DEPTH
    here = os.open(tree, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    remove_tree(str(tree))
    assert not tree.exists()


def test_odd_names_pipes_and_sockets(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in (b"new\nline", b"\xff\xfe", b"-rf", b" "):
        (Path(os.fsdecode(os.fsencode(tree) + b"/" + name))).touch()
    os.mkfifo(tree / "pipe")
    remove_tree(str(tree))
    assert not tree.exists()


def test_a_missing_tree_is_fine(tmp_path: Path) -> None:
    remove_tree(str(tmp_path / "none"))
    remove_tree(str(tmp_path / "none" / "deeper"))


def test_a_mount_tells_itself_apart_from_what_is_below_it() -> None:
    root = os.open("/", os.O_RDONLY)
    proc = os.open("/proc", os.O_RDONLY)
    try:
        assert mount_id(root) != mount_id(proc)
    finally:
        os.close(root)
        os.close(proc)


def test_what_is_mounted_inside_is_neither_entered_nor_emptied(tmp_path: Path) -> None:
    """In a mount namespace of its own, which needs no root where user namespaces are allowed."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("kept")
    (tmp_path / "tree" / "mounted").mkdir(parents=True)
    script = (
        "import sys; from runner_agent.workspace.removal import NotRemoved, remove_tree\n"
        "try: remove_tree(sys.argv[1])\n"
        "except NotRemoved as error: print(error)\n"
    )
    inside = 'mount --bind "$1/outside" "$1/tree/mounted" && exec "$2" -c "$3" "$1/tree"'
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    done = subprocess.run(
        [*namespace, "sh", "-c", inside, "sh", str(tmp_path), sys.executable, script],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        # No namespace here: then nothing was mounted, and there is nothing to cross.
        assert (tmp_path / "tree" / "mounted").is_dir()
        return
    assert "mounted" in done.stdout
    assert (tmp_path / "outside" / "precious").read_text() == "kept"


def test_a_workspace_is_fresh_each_time(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path)
    workspaces.open()
    place = workspaces.create("run.1", {"step-0": "echo hello\n"})
    assert list(place.work.iterdir()) == []
    assert (place.scripts / "step-0").read_text() == "echo hello\n"
    assert [path.stat().st_mode & 0o777 for path in (place.work, place.scripts, place.scripts / "step-0")] == [
        0o700
    ] * 3
    (place.work / "left").touch()
    assert list(workspaces.create("run.1", {}).work.iterdir()) == []
    assert not place.scripts.exists()


def test_the_sweep_removes_what_no_attempt_holds(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path)
    workspaces.open()
    for name in ("kept.1", "gone.1", "gone.2"):
        workspaces.create(name, {})
    (workspaces.root / "stray").write_text("")
    assert workspaces.sweep({"kept.1"}) == ()
    assert [path.name for path in workspaces.root.iterdir()] == ["kept.1"]
