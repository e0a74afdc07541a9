"""Verbs on the files that runs leave: what is wanted of an attempt, each file's row, and the end of waiting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from control_plane.domain.artifact import Announced, Artifact, ArtifactLimits, ArtifactState, refusal, still_coming
from control_plane.domain.case import Case, concluded
from control_plane.domain.errors import ErrorCode, FailedPrecondition, NotFound
from control_plane.domain.history import RunEventType
from control_plane.domain.ids import ArtifactId, AttemptKey, Holder, ProjectId
from control_plane.domain.session import Release
from control_plane.domain.workspace import ArtifactPattern
from control_plane.lifecycle.house import House, load, store
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection

AT_ONCE = 100
NOTE_CHARACTERS = 2_000
# The case, if it was still waiting, and what was not whole.
_Done = tuple[Case | None, tuple[Artifact, ...]]

NEVER_CAME = "artifacts: they did not come in time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What becomes of an announced file: `refused` says why not. `replaced`: rows that are gone, not their bytes."""

    artifact: Artifact | None = None
    refused: str = ""
    replaced: tuple[Artifact, ...] = ()


async def wanted(house: House, holder: Holder, key: AttemptKey) -> tuple[ArtifactPattern, ...]:
    """What its holder should upload of an attempt that is over; empty: nothing, or nothing any more.

    Raises NotFound ATTEMPT_NOT_FOUND (also for an attempt of others), FailedPrecondition RUN_ACTIVE before its exit
    record is stored.
    """

    def body(connection: Connection) -> tuple[ArtifactPattern, ...]:
        case = _held(house, connection, holder, key)
        if case.live.artifacts_due_at is not None:
            return case.spec.artifacts
        if case.spec.artifacts and not case.live.exit_stored and case.run.settled_at is None:
            raise FailedPrecondition(ErrorCode.RUN_ACTIVE, "The end of the attempt is not known yet.")
        return ()

    return await house.database.read(body)


async def begin(house: House, holder: Holder, key: AttemptKey, file: Announced, limits: ArtifactLimits) -> Beginning:
    """The file's row: a new one, or that of an upload of the same bytes that was cut. Raises NotFound."""
    artifact_id = ArtifactId(house.clock.new_id())

    def body(connection: Connection) -> Beginning:
        case = _held(house, connection, holder, key)
        if case.live.artifacts_due_at is None:
            return Beginning(refused="the run waits for no artifacts any more")
        stored = reads.artifacts_of_attempt(connection, key)
        same = [each for each in stored if each.name == file.name]
        if same and (same[0].sha256, same[0].size_bytes) == (file.sha256, file.size_bytes):
            return Beginning(artifact=same[0])
        if any(each.state is ArtifactState.COMPLETE for each in same):
            return Beginning(refused="it was stored before, with other bytes")
        why = refusal(file, tuple(each for each in stored if each.name != file.name), limits)
        if why:
            return Beginning(refused=why)
        writes.delete_artifacts(connection, [each.id for each in same])
        made = _made(case, artifact_id, file, house.clock.now())
        writes.insert_artifact(connection, made)
        return Beginning(artifact=made, replaced=tuple(same))

    return await house.database.write(body, name="artifacts.begin")


async def complete(house: House, holder: Holder, key: AttemptKey, artifact_id: ArtifactId) -> None:
    """Its bytes are durable: from here on readers see it. Raises NotFound ARTIFACT_NOT_FOUND when it is gone."""

    def body(connection: Connection) -> None:
        before = _held(house, connection, holder, key)
        if not writes.complete_artifact(connection, artifact_id):
            raise NotFound(ErrorCode.ARTIFACT_NOT_FOUND)
        store(connection, before, _patient(before, house.clock.now()))

    def after(_: None) -> None:
        house.watch.notify(f"run:{key.run_id}")

    await house.database.write(body, name="artifacts.complete", after=after)


async def extend(house: House, holder: Holder, key: AttemptKey) -> None:
    """A large file is on its way: waiting for it begins anew. Raises NotFound."""

    def body(connection: Connection) -> None:
        before = _held(house, connection, holder, key)
        store(connection, before, _patient(before, house.clock.now()))

    await house.database.write(body, name="artifacts.extend")


async def finish(house: House, holder: Holder, key: AttemptKey, notes: Sequence[str] = ()) -> tuple[Artifact, ...]:
    """Nothing more comes: the run may settle. What was not whole is gone, its bytes are the caller's.

    Raises NotFound.
    """
    body = partial(_finish, house, key, holder, "; ".join(notes))
    done: _Done = await house.database.write(body, name="artifacts.finish", after=partial(_told, house))
    return done[1]


async def overdue(house: House) -> tuple[Artifact, ...]:
    """Give up those that were awaited long enough, a day if their host is away.

    What was not whole is gone; its bytes are the caller's.
    """
    keys = await house.database.read(partial(reads.artifacts_overdue, now=house.clock.now(), limit=AT_ONCE))
    gone: list[Artifact] = []
    for key in keys:
        body = partial(_overdue, house, key)
        done: _Done = await house.database.write(body, name="artifacts.overdue", after=partial(_told, house))
        gone += done[1]
    return tuple(gone)


async def old(house: House, project_id: ProjectId, before: datetime) -> tuple[Artifact, ...]:
    """Some of the project's artifacts whose runs settled before that, but for pinned runs."""
    query = partial(reads.old_artifacts, project_id=project_id, before=before, limit=AT_ONCE)
    return await house.database.read(query)


async def delete(house: House, gone: Sequence[Artifact]) -> None:
    """Their rows, after their bytes."""
    body = partial(writes.delete_artifacts, artifact_ids=[each.id for each in gone])
    await house.database.write(body, name="artifacts.delete")


def _held(house: House, connection: Connection, holder: Holder | None, key: AttemptKey) -> Case:
    case = load(house, connection, key)
    if case is None or case.attempt is None or (holder is not None and case.attempt.holder != holder):
        raise NotFound(ErrorCode.ATTEMPT_NOT_FOUND)
    return case


def _made(case: Case, artifact_id: ArtifactId, file: Announced, now: datetime) -> Artifact:
    return Artifact(
        id=artifact_id,
        project_id=case.run.project_id,
        created_by=case.run.created_by,
        run_id=case.run.id,
        lease_epoch=case.live.lease_epoch,
        name=file.name,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        executable=file.executable,
        created_at=now,
    )


def _patient(case: Case, now: datetime) -> Case:
    return replace(case, attempt=still_coming(case.live, now))


def _finish(house: House, key: AttemptKey, holder: Holder | None, note: str, connection: Connection) -> _Done:
    before = _held(house, connection, holder, key)
    if before.live.artifacts_due_at is None:
        return None, ()
    now = house.clock.now()
    stored = reads.artifacts_of_attempt(connection, key)
    broken = tuple(each for each in stored if each.state is not ArtifactState.COMPLETE)
    writes.delete_artifacts(connection, [each.id for each in broken])
    after = replace(before, attempt=replace(before.live, artifacts_due_at=None))
    if note:
        after = after.record(RunEventType.EVIDENCE_ADDED, now, note=note[:NOTE_CHARACTERS])
    return store(connection, before, concluded(after, now)), broken


def _overdue(house: House, key: AttemptKey, connection: Connection) -> _Done:
    """A host that cannot be reached now may still come back with them: it is waited for the whole time."""
    before, now = _held(house, connection, None, key), house.clock.now()
    runner = reads.runner(connection, before.live.runner_id)
    later = _patient(before, now)
    due_at = later.live.artifacts_due_at
    if (runner is None or not runner.connected) and due_at is not None and due_at > now:
        store(connection, before, later)
        return None, ()
    return _finish(house, key, None, NEVER_CAME, connection)


def _told(house: House, done: _Done) -> None:
    """Its runner may forget the attempt, if its log is here, too."""
    case, _ = done
    if case is None:
        return
    house.told((case,))
    if case.live.is_handed_in:
        house.post(case.live.runner_id, Release(key=case.live.key))
