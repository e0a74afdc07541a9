"""What the server does with attempts: offers, and offers taken back."""

from collections.abc import Callable, Sequence
from functools import partial

from control_plane.domain.attempt import AttemptState
from control_plane.domain.case import Case
from control_plane.domain.ids import AttemptKey, RunnerId, next_epoch
from control_plane.domain.offers import offer as decide_offer
from control_plane.domain.offers import withdraw as decide_withdraw
from control_plane.domain.placement import Match
from control_plane.domain.reason import Reason
from control_plane.domain.run import RunState
from control_plane.lifecycle import limits
from control_plane.lifecycle.house import House, load, load_newest, store
from control_plane.storage import reads
from control_plane.storage.database import Connection

_OFFERS_A_VERB = 16


async def offer(house: House, matches: Sequence[Match]) -> tuple[AttemptKey, ...]:
    """Offer each run to its runner; the keys of those that still could be. Each runner hears its Offer after commit."""
    keys: list[AttemptKey] = []
    for start in range(0, len(matches), _OFFERS_A_VERB):
        part = matches[start : start + _OFFERS_A_VERB]
        cases = await house.database.write(partial(_offer_all, house, part), name="offer", after=partial(told, house))
        keys.extend(case.live.key for case in cases)
    return tuple(keys)


def told(house: House, cases: tuple[Case, ...]) -> None:
    """After the commit of offers."""
    house.told(cases)
    for case in cases:
        house.turns.served(case.run.lane)


def _offer_all(house: House, matches: Sequence[Match], conn: Connection) -> tuple[Case, ...]:
    free = {runner_id: _free_slots(conn, runner_id) for runner_id in {match.runner_id for match in matches}}
    return offer_in(house, conn, matches, free)


def offer_in(house: House, conn: Connection, matches: Sequence[Match], free: dict[RunnerId, int]) -> tuple[Case, ...]:
    """The same inside a transaction of the caller's, who knows which slots are free in it, and tells the cases."""
    generation = reads.generation(conn) if matches else 0
    cases = []
    for match in matches:
        case = _offer(house, conn, match, generation, free[match.runner_id])
        if case is not None:
            free[match.runner_id] -= case.live.slots
            cases.append(case)
    return tuple(cases)


def _free_slots(conn: Connection, runner_id: RunnerId) -> int:
    """What is free by the stored attempts; nothing on a runner that takes no more."""
    runner = reads.runner(conn, runner_id)
    if runner is None or runner.revoked_at is not None or runner.draining:
        return 0
    return runner.slots - runner.slots_used


def _offer(house: House, conn: Connection, match: Match, generation: int, free: int) -> Case | None:
    """None when the run, its place under a limit or the room on the runner is gone since they were placed."""
    now = house.clock.now()
    before = load_newest(house, conn, match.run_id)
    if before is None or before.run.state is not RunState.QUEUED or free < max(1, before.spec.slots):
        return None
    if before.run.not_before is not None and before.run.not_before > now:
        return None
    if limits.waiting_for(conn, before.run):
        return None
    epoch = next_epoch(before.run.lease_epoch, generation)
    return store(conn, before, decide_offer(before, match.runner_id, epoch, house.timing.offer_s, now))


async def withdraw(house: House, key: AttemptKey, reason: Reason, note: str = "") -> bool:
    """Take one offer back; False when it was answered meanwhile."""

    def body(conn: Connection) -> tuple[Case, ...]:
        before = load(house, conn, key)
        if before is None or before.attempt is None or before.attempt.state is not AttemptState.OFFERED:
            return ()
        return (store(conn, before, decide_withdraw(before, reason, note, house.clock.now())),)

    cases = await house.database.write(body, name="withdraw", after=house.told)
    return bool(cases)


async def withdraw_offers(house: House, runner_id: RunnerId, note: str) -> int:
    """Take back what was offered to a runner that drains or was revoked; how many offers those were."""
    body: Callable[[Connection], tuple[Case, ...]] = partial(_withdraw_all, house, runner_id, note)
    cases = await house.database.write(body, name="withdraw_offers", after=house.told)
    return len(cases)


def withdraw_offers_in(house: House, conn: Connection, runner_id: RunnerId, note: str) -> tuple[Case, ...]:
    """The same inside a transaction of the caller's, who calls `house.told` with the result after the commit."""
    return _withdraw_all(house, runner_id, note, conn)


def _withdraw_all(house: House, runner_id: RunnerId, note: str, conn: Connection) -> tuple[Case, ...]:
    cases = []
    for attempt in reads.live_attempts(conn, runner_id):
        before = load(house, conn, attempt.key) if attempt.state is AttemptState.OFFERED else None
        if before is not None:
            after = decide_withdraw(before, Reason.RUNNER_REFUSED, note, house.clock.now())
            cases.append(store(conn, before, after))
    return tuple(cases)
