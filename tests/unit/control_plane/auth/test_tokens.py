"""Tokens: their shape, and that junk is told from them without a database."""

import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.auth.tokens import ALPHABET, TokenKind, digest, kind_of, mint

entropy = st.binary(min_size=32, max_size=40)


@given(entropy, st.sampled_from(TokenKind))
def test_what_is_minted_is_well_formed(raw, kind):
    token = mint(kind, raw)
    prefix, name, rest = token.split("_")
    assert (prefix, name, len(rest)) == ("bnk", kind.value, 36)
    assert set(rest) <= set(string.ascii_letters + string.digits)
    assert kind_of(token) is kind


@given(entropy, st.integers(0, 44), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_noticed(raw, position, letter):
    token = mint(TokenKind.USER, raw)
    position = position % len(token)
    spoilt = token[:position] + letter + token[position + 1 :]
    assert (kind_of(spoilt) is TokenKind.USER) == (spoilt == token)


@pytest.mark.parametrize(
    "junk",
    [
        "",
        "bnk_user_",
        mint(TokenKind.USER, bytes(32))[:-1],
        mint(TokenKind.USER, bytes(32)) + "0",
        mint(TokenKind.USER, bytes(32)) + "\n",
        " " + mint(TokenKind.USER, bytes(32)),
        mint(TokenKind.USER, bytes(32)).replace("0", "٠"),
        mint(TokenKind.USER, bytes(32)).replace("user", "root"),
        "x" * 10_000,
    ],
)
def test_junk_is_no_token(junk):
    assert kind_of(junk) is None


def test_the_digest_is_sha256():
    assert digest("abc") == hashlib.sha256(b"abc").hexdigest()


def test_too_little_randomness_is_refused():
    with pytest.raises(ValueError):
        mint(TokenKind.USER, b"short")
