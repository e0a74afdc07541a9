"""Seeds that failed once, with what they had found. They are replayed by `make test`."""

from __future__ import annotations

REGRESSIONS: dict[int, str] = {
    179: "a runner that had missed its Resume refused every offer as draining, and the queue stood still",
    2001: "a server that was killed while it was frozen counted as a pause of the one after it",
    100281: "the exit record of a dead shim counted bytes that were not synced, and a power cut took them",
}
