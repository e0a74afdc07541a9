"""Page tokens: what was sealed opens in the same list, and nothing else opens anywhere."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from control_plane.domain.errors import ErrorCode, InvalidArgument
from control_plane.storage.paging import PageRequest, open_key, seal_key

keys = st.text() | st.integers(0, 2**63 - 1)


@settings(deadline=None)
@given(st.text(), keys)
def test_a_token_opens_in_its_own_list(scope: str, key: str | int) -> None:
    token = seal_key(scope, key)
    assert token.isascii()
    assert open_key(scope, token) == key


@settings(deadline=None)
@given(st.text(), st.text(), keys)
def test_a_token_opens_in_no_other_list(scope: str, other: str, key: str | int) -> None:
    if scope != other:
        with pytest.raises(InvalidArgument):
            open_key(other, seal_key(scope, key))


@settings(deadline=None)
@given(st.text())
@example("")
@example("A")
@example("=")
@example("AAAA" * 10)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        open_key("scope", text)
    assert caught.value.code is ErrorCode.PAGE_TOKEN_INVALID


@pytest.mark.parametrize(
    ("asked", "given"), [(0, 50), (1, 1), (50, 50), (1_000, 1_000), (1_001, 1_000), (2**31 - 1, 1_000)]
)
def test_page_sizes(asked: int, given: int) -> None:
    assert PageRequest(page_size=asked).size() == given


@pytest.mark.parametrize("asked", [-1, -(2**31)])
def test_a_negative_page_size_is_refused(asked: int) -> None:
    with pytest.raises(InvalidArgument):
        PageRequest(page_size=asked).size()
