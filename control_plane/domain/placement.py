"""Which queued run goes to which runner, and why the others wait. A pure function of two lists and the refusals."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from control_plane.domain.concurrency import Place, PlacesTaken, Taken
from control_plane.domain.ids import ProjectId, RunId, RunnerId
from control_plane.domain.spec import Selector, SelectorOperator
from control_plane.domain.timing import Timing
from control_plane.domain.turns import in_order

_Shape = tuple[ProjectId, tuple[Selector, ...], int, str]
_NOTHING: Mapping[str, Taken] = {}
_NO_TURNS: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedRun:
    """What placement needs of a queued run. `eligible_since`: when it could first have been offered."""

    run_id: RunId
    project_id: ProjectId
    priority: int = 0
    queue_rank: int = 1
    eligible_since: datetime
    not_before: datetime | None = None
    selectors: tuple[Selector, ...] = ()
    slots: int = 1
    runner: str = ""
    # Name of a runner that lists an attempt of it under a fence that was never given out: a restored backup. A process
    # of the run may live there, so it is offered to nobody.
    withheld_by: str = ""
    # Lanes take turns; one lane's runs have its project and the key of their limit in common.
    lane: str = ""
    # What it takes under its limits.
    places: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerView:
    """What placement needs of an enrolled runner."""

    runner_id: RunnerId
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    allowed_project_ids: tuple[ProjectId, ...] = ()
    slots: int
    free: int
    connected: bool = True
    draining: bool = False
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    run_id: RunId
    runner_id: RunnerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Offers to make, in order; for every other run the sentence that says why it waits.

    `wake_s`: seconds until a retry's not_before or a refusal ends; None: only an event can change anything.
    `full`: runs wait, and no slot is free where they could go: a run more changes nothing.
    `empty`: no run waits at all, not even for its time or its turn: only a run more changes anything.
    """

    offers: tuple[Match, ...]
    waiting: Mapping[RunId, str]
    wake_s: float | None = None
    # By group: why runs that this round did not look at wait for a place.
    shut: Mapping[str, str] = field(default_factory=dict)
    full: bool = False
    empty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    count: int
    until_s: float
    note: str


class Refusals:
    """Which runner refused which run (or let its offer time out), and until when it is not asked again."""

    CAPACITY = 10_000

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._known: dict[tuple[RunId, RunnerId], Refusal] = {}

    def add(self, run_id: RunId, runner_id: RunnerId, note: str, now_s: float) -> None:
        """5 s, doubling to 60 s with each further refusal of the same pair."""
        earlier = self._known.pop((run_id, runner_id), None)
        count = 1 if earlier is None else earlier.count + 1
        delay_s = min(self._timing.refusal_backoff_cap_s, self._timing.refusal_backoff_s * 2.0 ** min(count - 1, 16))
        if len(self._known) >= self.CAPACITY:
            self._known.pop(next(iter(self._known)))
        self._known[run_id, runner_id] = Refusal(count=count, until_s=now_s + delay_s, note=note)

    def forget(self, run_id: RunId) -> None:
        for pair in [pair for pair in self._known if pair[0] == run_id]:
            del self._known[pair]

    def standing(self, run_id: RunId, runner_id: RunnerId, now_s: float) -> Refusal | None:
        refusal = self._known.get((run_id, runner_id))
        return refusal if refusal is not None and refusal.until_s > now_s else None

    def next_end_s(self, now_s: float) -> float | None:
        """When the earliest standing refusal ends."""
        return min((each.until_s for each in self._known.values() if each.until_s > now_s), default=None)


def selects(selector: Selector, labels: Mapping[str, str]) -> bool:
    value = labels.get(selector.key)
    match selector.operator:
        case SelectorOperator.IN:
            return value is not None and value in selector.values
        case SelectorOperator.NOT_IN:
            return value is None or value not in selector.values
        case SelectorOperator.EXISTS:
            return value is not None


def place(
    queued: Iterable[QueuedRun],
    runners: Sequence[RunnerView],
    refusals: Refusals,
    now: datetime,
    now_s: float,
    timing: Timing,
    taken: Mapping[str, Taken] = _NOTHING,
    turns: Mapping[str, int] = _NO_TURNS,
) -> Placement:
    """Highest priority first, then returned runs, then lanes in turn, then age. A run takes the matching runner with
    most free slots. `taken`: the places that are held, by group; `turns`: when each lane was last served.

    A run that needs more slots than are free anywhere reserves, after a minute, the matching runner that has most of
    them free: later runs leave it alone until the big one fits.
    """
    this = _Round(runners, refusals, now, now_s, timing)
    places = PlacesTaken(taken)
    offers: list[Match] = []
    waiting: dict[RunId, str] = {}
    for run in in_order(queued, turns):
        if run.not_before is not None and run.not_before > now:
            waiting[run.run_id] = f"Not before {run.not_before:%Y-%m-%d %H:%M:%S} UTC."
            continue
        if run.withheld_by:
            name = run.withheld_by
            waiting[run.run_id] = f"Runner {name} lists an attempt of it that this control plane does not know."
            continue
        answer = places.shut(run.places) or this.choose(run)
        if isinstance(answer, Match):
            offers.append(answer)
            places.take(run.places, run.run_id)
        else:
            waiting[run.run_id] = answer
    return Placement(offers=tuple(offers), waiting=waiting)


class _Round:
    """One pass over the queue. Runs that ask for the same are matched once: a long queue has few shapes."""

    def __init__(
        self, runners: Sequence[RunnerView], refusals: Refusals, now: datetime, now_s: float, timing: Timing
    ) -> None:
        self._runners, self._refusals, self._timing = runners, refusals, timing
        self._now, self._now_s = now, now_s
        self._free = {runner.runner_id: runner.free for runner in runners}
        self._reserved: dict[RunnerId, RunId] = {}
        self._able: dict[_Shape, list[RunnerView]] = {}
        self._busy: dict[_Shape, str] = {}

    def choose(self, run: QueuedRun) -> Match | str:
        """The runner that takes the run, whose slots are taken off; else why it waits."""
        shape = (run.project_id, run.selectors, run.slots, run.runner)
        if shape in self._busy:
            return self._busy[shape]
        able = self._able.get(shape)
        if able is None:
            able = self._able[shape] = [view for view in self._runners if _able(run, view)]
        asked = [view for view in able if self._asked(run, view)]
        open_to_it = [view for view in asked if view.runner_id not in self._reserved]
        best = min(open_to_it, key=lambda view: (-self._free[view.runner_id], view.name), default=None)
        if best is not None and self._free[best.runner_id] >= run.slots:
            self._free[best.runner_id] -= run.slots
            return Match(run_id=run.run_id, runner_id=best.runner_id)
        waited_s = (self._now - run.eligible_since).total_seconds()
        if best is not None and run.slots > 1 and waited_s >= self._timing.reservation_s:
            self._reserved[best.runner_id] = run.run_id
        sentence = self._why(run, able, asked)
        if run.slots == 1 and len(asked) == len(able):
            # Slots only get fewer within a pass: nobody else of this shape has better luck.
            self._busy[shape] = sentence
        return sentence

    def _asked(self, run: QueuedRun, view: RunnerView) -> bool:
        return self._refusals.standing(run.run_id, view.runner_id, self._now_s) is None

    def _why(self, run: QueuedRun, able: Sequence[RunnerView], asked: Sequence[RunnerView]) -> str:
        """The most telling reason that the run waits, as a sentence."""
        if not able:
            return _nobody(run, self._runners)
        if not asked:
            return self._not_asked(run, able[0])
        held = [self._reserved[view.runner_id] for view in asked if view.runner_id in self._reserved]
        if held and run.run_id in held:
            return f"It needs {run.slots} slots at once; a runner is reserved for it until they are free."
        if held and len(held) == len(asked):
            return f"The matching runners are reserved for run {held[0]}, which needs more slots."
        names = ", ".join(sorted(view.name for view in asked)[:3])
        return f"All matching runners are busy ({names})."

    def _not_asked(self, run: QueuedRun, view: RunnerView) -> str:
        refusal = self._refusals.standing(run.run_id, view.runner_id, self._now_s)
        note = refusal.note if refusal is not None and refusal.note else "no reason given"
        return f"Runner {view.name} refused it: {note}; it is asked again soon."


def _able(run: QueuedRun, view: RunnerView) -> bool:
    """The runner could take the run if it had room."""
    return _eligible(run, view) and view.connected and not view.draining


def _eligible(run: QueuedRun, view: RunnerView) -> bool:
    return (
        not view.revoked
        and run.runner in ("", view.name, view.runner_id)
        and (not view.allowed_project_ids or run.project_id in view.allowed_project_ids)
        and all(selects(selector, view.labels) for selector in run.selectors)
        and view.slots >= run.slots
    )


def _nobody(run: QueuedRun, runners: Sequence[RunnerView]) -> str:
    alive = [view for view in runners if not view.revoked]
    if not alive:
        return "No runner is enrolled."
    if run.runner:
        alive = [view for view in alive if run.runner in (view.name, view.runner_id)]
        if not alive:
            return f"There is no runner {run.runner}."
    allowed = [view for view in alive if not view.allowed_project_ids or run.project_id in view.allowed_project_ids]
    if not allowed:
        return "No runner may take runs of this project."
    for selector in run.selectors:
        if not any(selects(selector, view.labels) for view in allowed):
            return f"No runner has label {_spoken(selector)}."
    matching = [view for view in allowed if all(selects(selector, view.labels) for selector in run.selectors)]
    if not matching:
        return "No single runner has all the labels that it asks for."
    roomy = [view for view in matching if view.slots >= run.slots]
    if not roomy and any(view.connected for view in matching):
        return f"No matching runner has {run.slots} slots."
    return _away(roomy or matching)


def _away(matching: Sequence[RunnerView]) -> str:
    """They would do, but none can be asked now."""
    name, plural = matching[0].name, len(matching) > 1
    if any(view.connected for view in matching):
        return "The matching runners are draining." if plural else f"Runner {name} is draining."
    return "The matching runners are not connected." if plural else f"Runner {name} is not connected."


def _spoken(selector: Selector) -> str:
    values = " or ".join(selector.values)
    match selector.operator:
        case SelectorOperator.IN:
            return f"{selector.key}={values}"
        case SelectorOperator.NOT_IN:
            return f"{selector.key} other than {values}"
        case SelectorOperator.EXISTS:
            return selector.key
