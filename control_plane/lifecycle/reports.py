"""What runners say: inventories, heartbeats and reports. Each is judged by the pure rules and answered after commit."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from control_plane.domain.case import Case
from control_plane.domain.copies import replace
from control_plane.domain.ends import Instant, start_failed_by_server
from control_plane.domain.ids import AttemptKey, Holder
from control_plane.domain.logs import LogSeal
from control_plane.domain.protocol import (
    Judgement,
    evidence_fence,
    judge,
    judge_exited,
    judge_reply,
    judge_started,
    judge_step,
    judge_stop_status,
)
from control_plane.domain.session import (
    AttemptEventReport,
    AttemptExited,
    AttemptStarted,
    Fenced,
    HeldAttempt,
    OfferReply,
    Release,
    StopStatus,
    ToRunner,
    Verdict,
    VerdictKind,
)
from control_plane.lifecycle import restores
from control_plane.lifecycle.assignments import assignment, missing_secrets
from control_plane.lifecycle.house import House, load, store
from control_plane.storage.database import Connection
from control_plane.storage.following import Stir

M = TypeVar("M")
_ENTRIES_A_VERB = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """One judged statement: how the case was found, what became of it, what is answered."""

    before: Case | None
    after: Case | None
    verdict: Verdict | None

    @property
    def moves(self) -> bool:
        return self.after is not None and self.after != self.before


async def inventory(house: House, holder: Holder, entries: Sequence[HeldAttempt]) -> tuple[Verdict, ...]:
    """Verdicts on the whole inventory of a Hello, in its order. What it does not list is left to its loss clock."""
    verdicts = await _held(house, holder, entries)
    await restores.told(house, holder.runner_id, entries, verdicts, whole=True)
    return verdicts


async def heartbeat(house: House, holder: Holder, held: Sequence[HeldAttempt]) -> tuple[Verdict, ...]:
    """Verdicts on a heartbeat's held set, which it renews. It writes only where an entry heals a lost message."""
    verdicts = await _held(house, holder, held)
    await restores.told(house, holder.runner_id, held, verdicts, whole=False)
    return verdicts


async def offer_reply(house: House, holder: Holder, reply: OfferReply) -> None:
    await _report(house, holder, reply.key, partial(judge_reply, reply))


async def attempt_started(house: House, holder: Holder, report: AttemptStarted) -> None:
    # Nothing is answered, so nobody waits for the commit; a quick exit may share it. If the server dies before it, the
    # exit or the next inventory says the same.
    await _report(house, holder, report.key, partial(judge_started, report), patient=True)


async def attempt_exited(house: House, holder: Holder, report: AttemptExited, empty: LogSeal | None = None) -> bool:
    """Whether nothing is left to be done for the attempt: its runner was told so.

    `empty`: the seal of its log, if nothing of that was ever stored. A run that prints nothing needs no verb of its own
    for the seal.
    """
    answer = await _report(house, holder, report.key, partial(judge_exited, report, empty=empty), stirs=Stir.SLOT)
    return answer.verdict is not None and answer.verdict.kind is VerdictKind.RELEASE


async def attempt_event(house: House, holder: Holder, report: AttemptEventReport) -> None:
    await _report(house, holder, report.key, partial(judge_step, report), patient=True)


async def stop_status(house: House, holder: Holder, report: StopStatus) -> None:
    answer = await _report(house, holder, report.key, partial(judge_stop_status, report))
    if answer.after is not None and evidence_fence(answer.after, holder):
        house.clocks.stop_heard(report.key, house.clock.monotonic_s())


_Judge = Callable[[Holder, Case | None, Instant], Judgement]


async def _report(
    house: House,
    holder: Holder,
    key: AttemptKey,
    judged: _Judge,
    *,
    stirs: Stir = Stir.NOTHING,
    patient: bool = False,
) -> _Answer:
    """One report: judged and stored in one transaction, then answered through the runner's session."""

    def body(conn: Connection) -> _Answer:
        return _stored(conn, _judged(house, conn, holder, key, judged))

    def after(answer: _Answer) -> None:
        _tell(house, (answer,), stirs=stirs)
        message = None if answer.verdict is None else _as_message(answer)
        if message is not None:
            house.post(holder.runner_id, message)

    return await house.database.write(body, name="report", after=after, stirs=stirs, patient=patient)


async def _held(house: House, holder: Holder, entries: Sequence[HeldAttempt]) -> tuple[Verdict, ...]:
    """Judged in a read first: a heartbeat that changes nothing costs no write."""
    verdicts: list[Verdict] = []
    for start in range(0, len(entries), _ENTRIES_A_VERB):
        part = entries[start : start + _ENTRIES_A_VERB]
        body = partial(_judge_all, house, holder, part)
        answers = await house.database.read(body)
        if any(answer.moves for answer in answers):
            store_all = partial(_store_all, house, holder, part)
            answers = await house.database.write(store_all, name="held", after=partial(_tell, house))
        verdicts.extend(answer.verdict for answer in answers if answer.verdict is not None)
    now_s = house.clock.monotonic_s()
    for verdict in verdicts:
        if verdict.renewed:
            house.clocks.renew(verdict.key, now_s)
    return tuple(verdicts)


def _judge_all(house: House, holder: Holder, entries: Iterable[HeldAttempt], conn: Connection) -> tuple[_Answer, ...]:
    return tuple(_judged(house, conn, holder, entry.key, partial(judge, entry)) for entry in entries)


def _store_all(house: House, holder: Holder, entries: Iterable[HeldAttempt], conn: Connection) -> tuple[_Answer, ...]:
    """One by one: a second entry of the same run must see what the first one moved."""
    return tuple(_stored(conn, _judged(house, conn, holder, entry.key, partial(judge, entry))) for entry in entries)


def _judged(house: House, conn: Connection, holder: Holder, key: AttemptKey, judged: _Judge) -> _Answer:
    before = load(house, conn, key)
    at = house.instant()
    judgement = judged(holder, before, at)
    verdict, after = judgement.verdict, judgement.case
    if verdict is not None and verdict.kind is VerdictKind.START and after is not None:
        verdict, after = _with_assignment(house, conn, verdict, after, at)
    return _Answer(before=before, after=after, verdict=verdict)


def _with_assignment(house: House, conn: Connection, verdict: Verdict, case: Case, at: Instant) -> tuple[Verdict, Case]:
    """A secret that has gone by now fails the start. An earlier Assignment may be on its way, so the answer is a fence:
    the runner ends whatever there is and reports it."""
    missing = missing_secrets(house, conn, case)
    if not missing:
        return replace(verdict, assignment=assignment(house, conn, case)), case
    case = start_failed_by_server(case, f"no secret {', '.join(missing)} in its project", at)
    return replace(verdict, kind=VerdictKind.FENCED, renewed=False), case


def _stored(conn: Connection, answer: _Answer) -> _Answer:
    if answer.moves and answer.before is not None and answer.after is not None:
        store(conn, answer.before, answer.after)
    return answer


def _tell(house: House, answers: Iterable[_Answer], *, stirs: Stir = Stir.NOTHING) -> None:
    house.told((answer.after for answer in answers if answer.after is not None and answer.moves), stirs=stirs)


def _as_message(answer: _Answer) -> ToRunner | None:
    """The verdict on a single report as the message that says the same; None where silence says it."""
    verdict, case = answer.verdict, answer.after
    if verdict is None or case is None:
        return None
    match verdict.kind:
        case VerdictKind.START:
            return verdict.assignment
        case VerdictKind.STOP:
            return verdict.stop
        case VerdictKind.FENCED:
            return Fenced(key=verdict.key, current_lease_epoch=case.run.lease_epoch)
        case VerdictKind.RELEASE:
            return Release(key=verdict.key)
        case VerdictKind.KEEP | VerdictKind.SEND_EXIT | VerdictKind.UNKNOWN:
            return None
