"""Masking: whatever the cuts, no secret shows and every other byte is as it was."""

from __future__ import annotations

import base64
import itertools
import json
import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner_agent.shim.mask import Masker, NeedleSet
from runner_agent.shim.needles import derive_needles, is_maskable

PERIODIC = [b"aabaabaab", b"abab1abab1", b"sk-sk-live", b"aaaaaaaa", b"abcabcabcab"]


def _needles(*needles: bytes) -> NeedleSet:
    found = NeedleSet()
    found.add_needles(needles)
    return found


def _stream(needles: NeedleSet, parts: list[bytes]) -> bytes:
    masker = Masker(needles)
    return b"".join(masker.feed(part) for part in parts) + masker.finish()


def _plain(needles: list[bytes], text: bytes) -> bytes:
    """The definition: cover every occurrence, overlapping ones as one, and put a token for each stretch."""
    spans = sorted(
        (at, at + len(needle)) for needle in needles for at in range(len(text)) if text.startswith(needle, at)
    )
    merged: list[tuple[int, int]] = []
    for begin, end in spans:
        if merged and begin < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    out, at = [], 0
    for begin, end in merged:
        out += [text[at:begin], b"***"]
        at = end
    return b"".join(out) + text[at:]


def _cut(text: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[begin:end] for begin, end in itertools.pairwise(edges)]


_SMALL = st.binary(min_size=0, max_size=40).map(lambda data: bytes(b"ab1\n"[byte % 4] for byte in data))


@settings(max_examples=400, deadline=None)
@given(
    needles=st.lists(
        st.one_of(_SMALL.filter(lambda n: len(n) >= 5), st.sampled_from(PERIODIC)), min_size=1, max_size=4
    ),
    pieces=st.lists(st.tuples(_SMALL, st.integers(0, 40), st.integers(0, 40)), max_size=6),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_any_cuts_give_what_the_whole_text_gives(
    needles: list[bytes], pieces: list[tuple[bytes, int, int]], cuts: list[int]
) -> None:
    text = b"".join(
        filler + needles[number % len(needles)][: size if size % 3 else None] for filler, number, size in pieces
    )
    masked = _stream(_needles(*needles), _cut(text, cuts))
    assert masked == _plain(needles, text)
    assert not any(needle in masked for needle in needles)


@pytest.mark.parametrize("secret", PERIODIC)
def test_every_pair_of_cuts_through_a_periodic_secret(secret: bytes) -> None:
    for prefix in (b"", b"x", secret[:3], secret[:6], b"sk-", secret[:-1]):
        text = prefix + secret + b"tail"
        expected = _plain([secret], text)
        for cuts in itertools.combinations(range(len(text) + 1), 2):
            assert _stream(_needles(secret), _cut(text, list(cuts))) == expected


def test_byte_by_byte_with_overlapping_secrets() -> None:
    first, second = b"abcdefgh-one", b"one-abcdefgh"
    text = b"<" + first + second[3:] + b">" + first[:-1] + b"!"
    assert _stream(_needles(first, second), [bytes([byte]) for byte in text]) == b"<***>" + first[:-1] + b"!"


def test_only_a_possible_beginning_is_held_back_and_only_until_it_is_none() -> None:
    masker = Masker(_needles(b"secret-value"))
    assert masker.feed(b"plain secret-va") == b"plain "
    assert masker.feed(b"") == b""
    assert masker.feed(b"t") == b"secret-vat"
    assert masker.feed(b"more\n") == b"more\n"
    assert masker.feed(b"s") == b""
    assert masker.finish() == b"s"


def test_held_bytes_are_bounded_by_the_longest_needle() -> None:
    masker = Masker(_needles(b"a" * 100))
    for _ in range(50):
        masker.feed(b"a" * 1000)
        assert len(masker._held) < 100
    assert masker.finish() == b""


def test_a_mask_added_later_counts_from_then_on() -> None:
    needles = NeedleSet()
    masker = Masker(needles)
    assert masker.feed(b"hunter2-hunter2 ") == b"hunter2-hunter2 "
    assert needles.add(b"hunter2-hunter2")
    assert masker.feed(b"hunter2-hunter2 ") == b"*** "


def test_the_token_never_completes_a_needle() -> None:
    needles = _needles(b"ab***cdef", b"SECRETSECRET")
    assert b"ab***cdef" not in _stream(needles, [b"abSECRETSECRETcdef"])


SECRET = b'p@ss "w\xc3\xb6rd"/+&<1>\''


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        SECRET.hex().encode(),
        SECRET.hex().upper().encode(),
        base64.b64encode(SECRET).rstrip(b"="),
        base64.b64encode(b"x" + SECRET + b"yz")[2:-4],
        base64.b64encode(b"xy" + SECRET + b"z")[3:-4],
        base64.urlsafe_b64encode(SECRET).rstrip(b"="),
        urllib.parse.quote(SECRET, safe="").encode(),
        urllib.parse.quote(SECRET).encode(),
        urllib.parse.quote_plus(SECRET).encode(),
        json.dumps(SECRET.decode())[1:-1].encode(),
        json.dumps(SECRET.decode(), ensure_ascii=False)[1:-1].encode(),
        SECRET.replace(b"'", b"'\\''"),
    ],
)
def test_the_usual_encodings_are_masked_too(shown: bytes) -> None:
    masked = _stream(NeedleSet([SECRET + b"\n"]), [b"before ", shown, b" after"])
    assert masked.startswith(b"before ")
    assert b"***" in masked
    assert len(masked) <= len(b"before *** after") + 4  # of base64, the last bits may show


def test_each_longer_line_of_a_secret_is_masked() -> None:
    key = b"-----BEGIN KEY-----\nMIIBVgIBADANBgkqhkiG9w0\nshort\n-----END KEY-----\n"
    needles = NeedleSet([key])
    assert _stream(needles, [b"[MIIBVgIBADANBgkqhkiG9w0]\r\nshort\n"]) == b"[***]\r\nshort\n"
    assert _stream(needles, [key.replace(b"\n", b"\r\n")]) in (b"***\r\n", b"***")


def test_short_values_are_not_masked() -> None:
    assert not is_maskable(b"1234567")
    assert not is_maskable(b"  1234567  \n")
    assert derive_needles(b"1234567") == frozenset()
    assert is_maskable(b"12345678")
    assert not NeedleSet().add(b"x")


@given(secret=st.binary(min_size=8, max_size=60), before=st.binary(max_size=20), after=st.binary(max_size=20))
def test_derived_needles_hide_any_secret(secret: bytes, before: bytes, after: bytes) -> None:
    needles = NeedleSet([secret])
    if is_maskable(secret):
        assert secret not in _stream(needles, [before, secret, after])
