"""One page of a list."""

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """Items in the list's order. The token is empty on the last page; total_size is None unless it was asked for."""

    items: tuple[T, ...]
    next_page_token: str = ""
    total_size: int | None = None
    total_size_capped: bool = False
