"""What is looked for first: no needle without an anchor, and few anchors for many forms."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner_agent.shim.anchors import anchors_of
from runner_agent.shim.mask import Masker, NeedleSet
from runner_agent.shim.needles import derive_needles

_NEEDLE = st.one_of(
    st.binary(min_size=5, max_size=40),
    st.lists(st.sampled_from([b"Topsecret", b"'", b"/", b"%2F", b"abc", b"-", b" "]), min_size=3, max_size=8).map(
        b"".join
    ),
)


@given(needles=st.lists(_NEEDLE, max_size=12))
def test_each_needle_has_one_anchor_and_contains_it(needles: list[bytes]) -> None:
    made = anchors_of(dict.fromkeys((needle for needle in needles if len(needle) >= 5), 1))
    held = [needle for anchor in made for needle, *_ in anchor.needles]
    assert sorted(held) == sorted({needle for needle in needles if len(needle) >= 5})
    for anchor in made:
        assert anchor.rarest in anchor.text
        assert all(needle.index(anchor.text) == place for needle, _, place in anchor.needles)


def test_the_quoted_forms_of_a_secret_share_one_anchor() -> None:
    needles = derive_needles(b'Topsecret-0/aB3"+dEf$0')
    assert len(needles) > 10
    made = anchors_of(dict.fromkeys(needles, 1))
    assert b"Topsecret-0" in {anchor.text for anchor in made}
    assert len(made) <= 6, "this one, two of hexadecimal, three of base64"


def test_bytes_that_are_no_secret_are_searched_once_per_anchor() -> None:
    secrets = NeedleSet(f"ghp_{number}16C7e42F292c6912E7710c838347Ae178B4a".encode() for number in range(3))
    assert len(secrets.anchors) <= 18
    block = b"no secret at all, but XYZ of every kind: ghp_ 16C7e42F292c6912E\n" * 1000
    assert Masker(secrets).feed(block) == block


def test_an_anchor_alone_hides_nothing_and_all_that_it_stands_for_is_hidden() -> None:
    secrets = NeedleSet([b"Topsecret-0/aB3+dEf0"])
    masker = Masker(secrets)
    text = b"Topsecret-0 alone, Topsecret-0%2FaB3%2BdEf0 in a URL, Topsecret-0/aB3+dEf0 as it is\n"
    assert masker.feed(text) + masker.finish() == b"Topsecret-0 alone, *** in a URL, *** as it is\n"


def test_secrets_that_are_made_alike_share_anchors() -> None:
    secrets = NeedleSet(b"secret value %d, that no line holds" % number for number in range(10))
    assert [anchor.text for anchor in secrets.anchors].count(b"secret") == 1
    assert len(secrets.anchors) <= 51
    masker = Masker(secrets)
    text = (
        b"secret value 3, that no line holds and secret value 4 but secret%20value%209%2C%20that%20no%20line%20holds.\n"
    )
    masked = b"*** and secret value 4 but ***.\n"
    assert b"".join((masker.feed(text), masker.finish())) == masked


@given(
    words=st.lists(st.sampled_from([b"aaaaaa", b"aaaaaab", b"b", b" ", b"aaaaaa aaaaaab", b"-"]), max_size=200),
)
def test_every_occurrence_is_found_however_often_an_anchor_occurs(words: list[bytes]) -> None:
    needles = (b"aaaaaa aaaaaab", b"aaaaaab", b"aaaaaa-b")
    secrets = NeedleSet()
    secrets.add_needles(needles)
    text = b"".join(words)
    covered = bytearray(len(text))
    for needle in needles:
        at = text.find(needle)
        while at >= 0:
            covered[at : at + len(needle)] = b"\1" * len(needle)
            at = text.find(needle, at + 1)
    masker = Masker(secrets)
    masked = b"".join((masker.feed(text), masker.finish()))
    shown = bytes(byte for byte, hidden in zip(text, covered, strict=True) if not hidden)
    assert masked.replace(secrets.token, b"") == shown
