"""What a run says of how far it has come, and what its attempts have used. Coalesced: never a row of history."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """`percent` is 0 to 100, or None. `estimated`: its time is when the host said last that the run lives."""

    percent: float | None = None
    stage: str = ""
    note: str = ""
    updated_at: datetime | None = None
    estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceUsage:
    """What an attempt has used; the source of each figure is "cgroup" or "wait4". None: not known."""

    cpu_s: float | None = None
    cpu_source: str = ""
    max_rss_bytes: int | None = None
    max_rss_source: str = ""
    read_bytes: int | None = None
    written_bytes: int | None = None
    io_source: str = ""
