"""The front of the queue as a round of dispatch reads it: every lane's first runs, but of a full limit only one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from control_plane.domain.concurrency import Place, Taken, project_place, waits_for
from control_plane.domain.ids import ProjectId
from control_plane.storage import reads
from control_plane.storage.database import Connection

# A round looks at so many lanes; the next one goes on behind them.
LANES = 1_000
# Of one lane at least, however many there are.
LEAST = 8
# A look at a lane steps over every run in it that is not due yet: a short one only over so many in all.
NOT_DUE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """`taken`: the places that are held, by group. `shut`: why runs wait that were not read. `more`: some were not."""

    runs: tuple[reads.Waiting, ...]
    taken: dict[str, Taken]
    shut: dict[str, str]
    of_projects: dict[ProjectId, Place | None]
    more: bool
    cursor: str
    # No run is queued at all.
    empty: bool

    def places(self, run: reads.Waiting) -> tuple[Place, ...]:
        """What a run takes: under its project's limit and under its own."""
        whole = self.of_projects.get(run.project_id)
        return run.places if whole is None else (whole, *run.places)


def front(conn: Connection, now: datetime, limit: int, cursor: str) -> Front:
    """Runs that may be offered now, about `limit` of them. However long a queue is, it costs the same."""
    lanes = reads.lanes(conn, cursor, LANES)
    if cursor and not lanes:
        lanes = reads.lanes(conn, "", LANES)
    return _front(conn, now, limit, lanes)


def short_front(conn: Connection, now: datetime, limit: int, most_lanes: int) -> Front | None:
    """The same where only a few lanes have runs, and few runs that are not due; None: there are more of them."""
    lanes = reads.lanes(conn, "", most_lanes + 1)
    if len(lanes) > most_lanes or (lanes and reads.more_are_not_due(conn, now, NOT_DUE)):
        return None
    return _front(conn, now, limit, lanes)


def is_empty(conn: Connection) -> bool:
    """No run is queued at all."""
    return not reads.lanes(conn, "", 1)


def _front(conn: Connection, now: datetime, limit: int, lanes: tuple[str, ...]) -> Front:
    share = max(LEAST, limit // max(1, len(lanes)))
    look = _Look(conn, now, share)
    for lane in lanes:
        look.at(lane)
    return Front(
        runs=tuple(look.runs),
        taken=look.taken,
        shut=look.shut,
        of_projects=look.of_projects,
        more=look.more,
        cursor=lanes[-1] if len(lanes) == LANES else "",
        empty=not lanes,
    )


class _Look:
    """One pass over the lanes."""

    def __init__(self, conn: Connection, now: datetime, share: int) -> None:
        self._conn, self._now, self._share = conn, now, share
        self.runs: list[reads.Waiting] = []
        self.taken: dict[str, Taken] = {}
        self.shut: dict[str, str] = {}
        self.of_projects: dict[ProjectId, Place | None] = {}
        self.more = False

    def at(self, lane: str) -> None:
        # Only a lane with a key or a limit of its own is tried with one run first.
        limited = "/" in lane
        runs = reads.queued_runs(self._conn, self._now, 1 if limited else self._share, lane)
        if not runs:
            return
        head = runs[:1]
        for place in self._places(head[0]):
            self._count(place)
        whole = self.of_projects[head[0].project_id]
        own = [place for place in head[0].places if lane.endswith(f"/{place.group}")]
        if any(self._full(place) for place in (*own, *(() if whole is None else (whole,)))):
            # Whoever stands behind it needs the same place.
            self.runs.extend(head)
            return
        if limited:
            runs = reads.queued_runs(self._conn, self._now, self._share, lane)
        self.more |= len(runs) == self._share
        for run in runs:
            for place in run.places:
                self._count(place)
        self.runs.extend(runs)

    def _places(self, run: reads.Waiting) -> tuple[Place, ...]:
        if run.project_id not in self.of_projects:
            limit = reads.project_limit(self._conn, run.project_id)
            self.of_projects[run.project_id] = project_place(run.project_id, limit)
        whole = self.of_projects[run.project_id]
        return run.places if whole is None else (whole, *run.places)

    def _count(self, place: Place) -> None:
        if place.group not in self.taken:
            self.taken[place.group] = reads.held(self._conn, place)

    def _full(self, place: Place) -> bool:
        taken = self.taken[place.group]
        if taken.count < place.limit:
            return False
        self.shut[place.group] = waits_for(place, taken)
        return True
