"""Page requests of every list, and how a page becomes an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from control_plane.domain.errors import FieldViolation, InvalidArgument, invalid_fields
from control_plane.domain.filters import EVERYTHING, Field, Filter, parse_filter
from control_plane.domain.pages import Page
from control_plane.storage.reads import PageRequest

T = TypeVar("T")
R = TypeVar("R")


class _Paged(Protocol):
    page_size: int
    page_token: str


class _Filtered(_Paged, Protocol):
    filter: str


def page_request(request: _Paged) -> PageRequest:
    """What a list request says about its page."""
    include = bool(getattr(request, "include_total_size", False))
    return PageRequest(page_size=request.page_size, page_token=request.page_token, include_total_size=include)


def list_filter(request: _Filtered, fields: Mapping[str, Field], also: Sequence[FieldViolation] = ()) -> Filter:
    """A list request's filter. Raises InvalidArgument that names with it what is wrong `also`, and the page size."""
    wrong = list(also)
    found: Filter = EVERYTHING
    try:
        found = parse_filter(request.filter, fields)
    except InvalidArgument as error:
        wrong += error.violations
    if wrong:
        try:
            page_request(request).size()
        except InvalidArgument as error:
            wrong += error.violations
        raise invalid_fields(*wrong)
    return found


def page_answer(answer: Callable[..., R], field: str, page: Page[T], turn: Callable[[T], Any]) -> R:
    """The answer of a list: `field` holds the items."""
    words: dict[str, Any] = {field: [turn(item) for item in page.items], "next_page_token": page.next_page_token}
    if page.total_size is not None:
        words |= {"total_size": page.total_size, "total_size_capped": page.total_size_capped}
    return answer(**words)
