"""Secrets at rest: only the right key opens them, only in their place, and the key's file is private."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.auth.vault import FileVault, VaultKeyError
from control_plane.domain.ids import ProjectId
from control_plane.domain.ports import Vault

P = ProjectId("project")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secret.key"


def test_a_value_opens_after_a_restart(path: Path) -> None:
    vault: Vault = FileVault.at(path)
    sealed = vault.seal(P, "DEPLOY_KEY", 3, b"\x00 secret \xff")
    assert b"secret" not in sealed
    assert FileVault.at(path).open(P, "DEPLOY_KEY", 3, sealed) == b"\x00 secret \xff"


def test_the_key_is_made_once_private_and_whole(path: Path) -> None:
    FileVault.at(path)
    key = path.read_bytes()
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    FileVault.at(path)
    assert path.read_bytes() == key
    assert os.listdir(path.parent) == [path.name]


def test_two_seals_of_one_value_differ(path: Path) -> None:
    vault = FileVault.at(path)
    assert vault.seal(P, "A", 1, b"same") != vault.seal(P, "A", 1, b"same")


@pytest.mark.parametrize("place", [("other", "A", 1), ("project", "B", 1), ("project", "A", 2), ("projectA", "", 1)])
def test_a_value_that_was_moved_does_not_open(path: Path, place: tuple[str, str, int]) -> None:
    vault = FileVault.at(path)
    sealed = vault.seal(P, "A", 1, b"value")
    with pytest.raises(ValueError, match="does not open"):
        vault.open(ProjectId(place[0]), place[1], place[2], sealed)


@given(position=st.integers(0, 1000), bit=st.integers(0, 7))
def test_a_value_that_was_changed_does_not_open(position: int, bit: int) -> None:
    vault = FileVault(bytes(32))
    sealed = bytearray(vault.seal(P, "A", 1, b"value"))
    sealed[position % len(sealed)] ^= 1 << bit
    with pytest.raises(ValueError, match="the stored value of secret 'A'"):
        vault.open(P, "A", 1, bytes(sealed))


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"\x02" + bytes(40), bytes(12)])
def test_what_was_never_sealed_does_not_open(sealed: bytes) -> None:
    with pytest.raises(ValueError, match="stored value"):
        FileVault(bytes(32)).open(P, "A", 1, sealed)


def test_another_key_does_not_open(tmp_path: Path) -> None:
    sealed = FileVault.at(tmp_path / "a").seal(P, "A", 1, b"value")
    with pytest.raises(ValueError, match="under this key"):
        FileVault.at(tmp_path / "b").open(P, "A", 1, sealed)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o611])
def test_a_key_that_others_can_touch_is_refused(path: Path, mode: int) -> None:
    FileVault.at(path)
    path.chmod(mode)
    with pytest.raises(VaultKeyError, match="chmod 600"):
        FileVault.at(path)


@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
def test_a_file_that_is_no_key_is_refused_and_kept(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(VaultKeyError, match="32 bytes"):
        FileVault.at(path)
    assert path.read_bytes() == content


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    FileVault.at(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        FileVault.at(path)


def test_the_vault_shows_nothing_of_its_key(path: Path) -> None:
    vault = FileVault.at(path)
    assert path.read_bytes().hex() not in repr(vault) + str(vars(vault))
