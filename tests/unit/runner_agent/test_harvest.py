"""Which files of a workspace a pattern names, and that nothing leads out of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from runner_agent.domain.assignment import ArtifactPattern
from runner_agent.session.uploads import LARGEST_CHUNK_BYTES, SMALLEST_CHUNK_BYTES, next_chunk_bytes
from runner_agent.workspace import harvest

FILES = ("a.txt", "b.log", "dist/a.whl", "dist/sub/b.whl", "dist/sub/deeper/c.txt", ".hidden")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    for name in FILES:
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return made


def names(work: Path, *paths: str) -> tuple[str, ...]:
    return harvest.harvest(work, [ArtifactPattern(path=path) for path in paths]).names


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.txt", ("a.txt",)),
        ("*.txt", ("a.txt",)),
        ("[ab].*", ("a.txt", "b.log")),
        ("?.log", ("b.log",)),
        ("dist", ("dist/a.whl", "dist/sub/b.whl", "dist/sub/deeper/c.txt")),
        ("dist/", ("dist/a.whl", "dist/sub/b.whl", "dist/sub/deeper/c.txt")),
        ("dist/*.whl", ("dist/a.whl",)),
        ("dist/**/*.whl", ("dist/a.whl", "dist/sub/b.whl")),
        ("**/*.txt", ("a.txt", "dist/sub/deeper/c.txt")),
        ("**/**/c.txt", ("dist/sub/deeper/c.txt",)),
        ("**", tuple(sorted(FILES))),
        ("a.txt/b", ()),
        ("nothing", ()),
    ],
)
def test_patterns(work: Path, pattern: str, expected: tuple[str, ...]) -> None:
    found = harvest.harvest(work, [ArtifactPattern(path=pattern)])
    assert found.names == expected
    assert found.notes == (() if expected else (f"nothing matches {pattern!r}",))


def test_a_file_that_two_patterns_name_is_there_once(work: Path) -> None:
    assert names(work, "a.*", "*.txt") == ("a.txt",)


def test_links_and_what_is_no_file_are_passed_over(work: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("k")
    (work / "link").symlink_to(secret / "key")
    (work / "folder").symlink_to(secret)
    os.mkfifo(work / "dist" / "pipe")
    found = harvest.harvest(work, [ArtifactPattern(path=path) for path in ("link", "folder/key", "folder", "dist")])
    assert found.names == ("dist/a.whl", "dist/sub/b.whl", "dist/sub/deeper/c.txt")
    told = " ".join(found.notes)
    for what in ("link is a symbolic link", "folder is a symbolic link", "dist/pipe is no regular file"):
        assert what in told


@pytest.mark.parametrize("name", ["link", "folder/key", "dist", "dist/pipe", "nothing", "../secret/key"])
def test_only_a_plain_file_is_opened(work: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("k")
    (work / "link").symlink_to(tmp_path / "secret" / "key")
    (work / "folder").symlink_to(tmp_path / "secret")
    os.mkfifo(work / "dist" / "pipe")
    if name.startswith(".."):
        # A pattern cannot say this, and the control plane refuses such a name.
        assert not names(work, name)
        return
    with pytest.raises(OSError):
        harvest.open_file(work, name)


def test_facts_of_a_file(work: Path) -> None:
    (work / "tool").write_bytes(b"x" * (harvest.READ_BYTES + 1))
    os.chmod(work / "tool", 0o755)
    descriptor = harvest.open_file(work, "tool")
    found = harvest.facts(descriptor)
    os.close(descriptor)
    expected = hashlib.sha256(b"x" * (harvest.READ_BYTES + 1)).hexdigest()
    assert (found.size_bytes, found.sha256, found.executable) == (harvest.READ_BYTES + 1, expected, True)


def test_what_is_required(work: Path, tmp_path: Path) -> None:
    assert harvest.missing(work, ("a.txt", "*.zip", "dist")) == ("*.zip",)
    assert harvest.missing(tmp_path / "gone", ("a.txt",)) == ("a.txt",)


def test_names_of_a_deep_tree_end(tmp_path: Path) -> None:
    work = tmp_path / "work"
    os.makedirs(work / "/".join(["d"] * (harvest.MOST_DEPTH + 2)))
    found = harvest.harvest(work, [ArtifactPattern(path="**/*.txt")])
    assert any("too deep" in note for note in found.notes)


def test_chunks_suit_the_link() -> None:
    assert next_chunk_bytes(64 << 10, 0.01) == 128 << 10
    assert next_chunk_bytes(LARGEST_CHUNK_BYTES, 0.01) == LARGEST_CHUNK_BYTES
    assert next_chunk_bytes(64 << 10, 0.3) == 64 << 10
    assert next_chunk_bytes(64 << 10, 2.0) == 32 << 10
    assert next_chunk_bytes(SMALLEST_CHUNK_BYTES, 9.0) == SMALLEST_CHUNK_BYTES
