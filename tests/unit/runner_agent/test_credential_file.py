"""The runner's own key: made here, kept in a 0600 file, refused when others may read it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from runner_agent.session import credential_file
from runner_agent.session.credential_file import BadCredentialFile


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    made = replace(credential_file.new_identity("r-1"), runner_id="id", credential="secret", expires_at_s=12.5)
    credential_file.save(tmp_path / "c", made)
    loaded = credential_file.load(tmp_path / "c")
    assert loaded is not None
    assert (loaded.name, loaded.runner_id, loaded.credential, loaded.expires_at_s) == ("r-1", "id", "secret", 12.5)
    assert loaded.public_key == made.public_key
    assert len(loaded.public_key) == 32
    Ed25519PublicKey.from_public_bytes(loaded.public_key).verify(loaded.sign("text"), b"text")


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_only_the_owner_may_read_it_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        credential_file.save(tmp_path / "c", credential_file.new_identity("r"))
        credential_file.save(tmp_path / "c", credential_file.new_identity("again"))
    finally:
        os.umask(before)
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_no_file_is_no_identity(tmp_path: Path) -> None:
    assert credential_file.load(tmp_path / "none") is None


def test_a_file_that_others_may_read_is_refused_with_the_way_out(tmp_path: Path) -> None:
    credential_file.save(tmp_path / "c", credential_file.new_identity("r"))
    (tmp_path / "c").chmod(0o640)
    with pytest.raises(BadCredentialFile, match=r"mode 0640.*chmod 600"):
        credential_file.load(tmp_path / "c")


@pytest.mark.parametrize("text", ["", "{}", "[]", "not json", json.dumps({"version": 2}), json.dumps({"version": 1})])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c").write_text(text)
    (tmp_path / "c").chmod(0o600)
    with pytest.raises(BadCredentialFile):
        credential_file.load(tmp_path / "c")


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadCredentialFile):
        credential_file.load(tmp_path / "c")


def test_neither_key_nor_credential_shows_in_its_text() -> None:
    made = replace(credential_file.new_identity("r"), credential="secret")
    assert "secret" not in repr(made)
    assert "key" not in repr(made)
