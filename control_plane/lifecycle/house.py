"""What every verb works with, and the shared beats of a verb: load a case, store what was decided, tell it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from control_plane.clock import Clock
from control_plane.domain import limits
from control_plane.domain.attempt import Attempt
from control_plane.domain.case import Case
from control_plane.domain.clocks import Clocks
from control_plane.domain.ends import Instant
from control_plane.domain.errors import Aborted, ErrorCode, PermissionDenied
from control_plane.domain.extras import Extras
from control_plane.domain.history import RunEventType
from control_plane.domain.ids import AttemptKey, ProjectId, RunId, RunnerId
from control_plane.domain.placement import Refusals
from control_plane.domain.ports import SpecCodec, Vault
from control_plane.domain.principal import Caller
from control_plane.domain.run import RunState
from control_plane.domain.session import ToRunner
from control_plane.domain.spec import RunSpec
from control_plane.domain.timing import Timing
from control_plane.domain.turns import Turns
from control_plane.lifecycle import notices
from control_plane.lifecycle.known_projects import KnownProjects
from control_plane.lifecycle.outcomes import count_outcome
from control_plane.lifecycle.spec_cache import SpecCache
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection, Database
from control_plane.storage.following import Stir
from control_plane.watch import Watch

# What verbs say to dispatch, and what they were written with if a follower says it for them.
_SAID_BY_FOLLOWER = {"queued": Stir.QUEUED, "slots": Stir.SLOT}


def _drop(runner_id: RunnerId, message: ToRunner) -> None:
    """Nobody is connected yet: what is said comes again with the next Hello's verdicts."""


@dataclass(slots=True, kw_only=True)
class Returning:
    """After a restore: the runners that have not said yet what they hold, and until when that holds offers back."""

    until_s: float
    runners: set[RunnerId] = field(default_factory=set)


@dataclass(slots=True, kw_only=True)
class House:
    """Handed to every verb. `post` brings a message to a runner's live session, or drops it.

    `clocks`, `refusals` and `withheld` are memory: the verbs keep them after each commit, on the event loop's thread.
    """

    database: Database
    clock: Clock
    watch: Watch
    codec: SpecCodec
    vault: Vault
    timing: Timing = field(default_factory=Timing)
    post: Callable[[RunnerId, ToRunner], None] = _drop
    extras: Extras = field(default_factory=Extras)
    clocks: Clocks = field(init=False)
    refusals: Refusals = field(init=False)
    turns: Turns = field(default_factory=Turns)
    projects: KnownProjects = field(default_factory=KnownProjects)
    specs: SpecCache = field(init=False)
    # Runs that a runner lists under a fence that was never given out: a restored backup. They are offered to nobody.
    withheld: dict[RunnerId, frozenset[RunId]] = field(default_factory=dict)
    # None: the database was not restored, or everybody is back.
    returning: Returning | None = None

    def __post_init__(self) -> None:
        self.clocks = Clocks(timing=self.timing)
        self.refusals = Refusals(self.timing)
        self.specs = SpecCache(self.codec)

    def spec(self, conn: Connection, sha256: str) -> RunSpec:
        return self.specs.get(conn, sha256)

    def instant(self) -> Instant:
        return Instant(now=self.clock.now(), jitter=self.clock.jitter())

    def told(self, cases: Iterable[Case], *, stirs: Stir = Stir.NOTHING) -> None:
        """After a commit: set the clocks, wake who waits, send what is to be said.

        `stirs`: with what the verb was written. Then dispatch is woken by what followed it, if anything does.
        """
        now_s = self.clock.monotonic_s()
        topics: set[str] = set()
        for case in (each for told in cases for each in (*told.also, told)):
            topics |= _topics(case)
            if case.attempt is None:
                continue
            self.clocks.follow(case.attempt, case.spec, now_s)
            self._refused(case, case.attempt, now_s)
            for message in case.sends:
                self.post(case.attempt.runner_id, message)
        if stirs is not Stir.NOTHING and self.database.follower is not None:
            topics = _beside(topics, stirs)
        if topics:
            self.watch.notify(*topics)

    def _refused(self, case: Case, attempt: Attempt, now_s: float) -> None:
        """A refused offer, and one that was not answered, keeps its runner from being asked again at once."""
        if not case.run.is_active:
            self.refusals.forget(case.run.id)
        elif any(event.type is RunEventType.RETURNED for event in case.events):
            note = attempt.error_message or str(attempt.reason or "")
            self.refusals.add(case.run.id, attempt.runner_id, note, now_s)


def _topics(case: Case) -> set[str]:
    topics = {"runs", f"run:{case.run.id}"}
    attempt = case.attempt
    if attempt is not None:
        topics |= {f"runner:{attempt.runner_id}", f"log:{attempt.run_id}:{attempt.lease_epoch}"}
    # Also the next run of its schedule may wait for it.
    over = case.run.schedule_id is not None and not case.run.is_active
    if case.run.state is RunState.QUEUED or over or (attempt is not None and not attempt.is_live):
        topics.add("queue")
    if case.run.state is RunState.QUEUED:
        topics.add("queued")
    if attempt is not None and not attempt.is_live:
        topics.add("slots")
    if case.notifications and case.events:
        topics.add(notices.TOPIC)
    if case.run.report_due_at is not None:
        topics.add(notices.REPORTS)
    return topics


def _beside(topics: set[str], stirs: Stir) -> set[str]:
    """What is left to say beside the follower: all of it, if something came about that it was not told of.

    An exit may also queue its run again, and a new run may also free the slot of one that it supersedes.
    """
    if any(topic in topics and stir not in stirs for topic, stir in _SAID_BY_FOLLOWER.items()):
        return topics
    return topics - {"queue", *_SAID_BY_FOLLOWER}


def load(house: House, conn: Connection, key: AttemptKey) -> Case | None:
    """The case of an attempt; its `attempt` is None when its row is gone. None: there is no such run."""
    return _load(house, conn, key.run_id, key.lease_epoch)


def load_newest(house: House, conn: Connection, run_id: RunId) -> Case | None:
    """The case of a run with its newest attempt, if it has one."""
    return _load(house, conn, run_id, None)


def _load(house: House, conn: Connection, run_id: RunId, epoch: int | None) -> Case | None:
    # Also of a deleted run: its runner may still speak of it.
    run, attempt = reads.run_with_attempt(conn, run_id, epoch)
    if run is None:
        return None
    epoch = run.lease_epoch if epoch is None else epoch
    others: tuple[Attempt, ...] = ()
    if run.retry_count or run.infra_retries:
        known = reads.attempts(conn, run_id)
        others = tuple(each for each in known if each.assigned_at is not None and each.lease_epoch != epoch)
    task = None if run.task_id is None else reads.task(conn, run.task_id)
    deleted = run.task_id is not None and (task is None or task.deleted_at is not None)
    spec = house.spec(conn, run.spec_sha256)
    settings = reads.template_of_run(conn, run) if task is None else task
    notifications = () if settings is None else settings.notifications
    return Case(run=run, spec=spec, attempt=attempt, others=others, task_deleted=deleted, notifications=notifications)


def store(conn: Connection, before: Case, after: Case) -> Case:
    """Save what was decided if nothing moved meanwhile, with its history. Raises Aborted CONCURRENT_CHANGE."""
    saved = writes.save_run(conn, before.run, after.run)
    if saved and after.attempt is not None:
        if before.attempt is None or before.attempt.key != after.attempt.key:
            writes.insert_attempt(conn, after.attempt)
        else:
            saved = writes.save_attempt(conn, before.attempt, after.attempt)
    if not saved:
        raise Aborted(ErrorCode.CONCURRENT_CHANGE, f"Run {before.run.id} was changed at the same moment.")
    writes.append_events(conn, after.events)
    notices.keep_notices(conn, before.run, after)
    if after.run.schedule_id is not None and before.run.is_active and not after.run.is_active:
        count_outcome(conn, after.run)
    if after.run.variables and after.run.settled_at is not None and before.run.settled_at is None:
        writes.delete_run_secrets(conn, after.run.id)
    if after.run.rejected_count > limits.REJECTED_ROWS_KEPT and after.run.rejected_count > before.run.rejected_count:
        writes.prune_rejected(conn, after.run.id, limits.REJECTED_ROWS_KEPT)
    return after


def require_project(caller: Caller, project_id: ProjectId) -> None:
    """Raises PermissionDenied PROJECT_FORBIDDEN."""
    if not caller.principal.may_use(project_id):
        raise PermissionDenied(ErrorCode.PROJECT_FORBIDDEN)
