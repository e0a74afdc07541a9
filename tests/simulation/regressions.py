"""Seeds that failed once, with what they had found. They are replayed by `make test`."""

from __future__ import annotations

REGRESSIONS: dict[int, str] = {}
