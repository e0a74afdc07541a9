"""Files that hold a key or a token: private, whole, and the same at the next start."""

import json
import os
import stat

import pytest

from control_plane.auth import admin_file
from control_plane.auth.keyfile import read_or_make_key, write_private
from control_plane.auth.tokens import TokenKind, mint

TOKEN = mint(TokenKind.USER, bytes(32))


def test_a_key_is_made_once(tmp_path):
    path = tmp_path / "key"
    assert read_or_make_key(path, b"a" * 32) == b"a" * 32
    assert read_or_make_key(path, b"b" * 32) == b"a" * 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_is_no_key_is_not_replaced(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match="key"):
        read_or_make_key(path, b"a" * 32)
    assert path.read_bytes() == b"short"


def test_a_draft_that_a_crash_left_is_no_obstacle(tmp_path):
    path = tmp_path / "key"
    path.with_name("key.new").write_bytes(b"half")
    write_private(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["key"]


def test_the_admins_file_is_read_back(tmp_path):
    admin_file.write(tmp_path, url="http://127.0.0.1:1", token=TOKEN)
    words = json.loads((tmp_path / "admin.json").read_text())
    assert words == {"url": "http://127.0.0.1:1", "token": TOKEN, "pid": os.getpid()}
    assert admin_file.stored_token(tmp_path) == TOKEN
    assert stat.S_IMODE((tmp_path / "admin.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"token": 3}', '{"token": "bnk_user_x"}'])
def test_a_file_without_a_usable_token_is_as_good_as_none(tmp_path, text):
    if text is not None:
        (tmp_path / "admin.json").write_text(text)
    assert admin_file.stored_token(tmp_path) is None
