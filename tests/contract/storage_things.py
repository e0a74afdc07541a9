"""Entities for the storage suites, whole and minimal."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from control_plane.domain.attempt import Attempt, AttemptState, StepResult, StopPhase, StopRecord
from control_plane.domain.concurrency import OnLimit, Place
from control_plane.domain.history import RunEventRecord, RunEventType
from control_plane.domain.ids import AttemptKey, PrincipalId, ProjectId, RunId, RunnerId, ScheduleId, TaskId, TokenId
from control_plane.domain.log import LogGap
from control_plane.domain.principal import Principal, PrincipalKind, Token
from control_plane.domain.project import Project
from control_plane.domain.reason import Reason
from control_plane.domain.run import Link, Run, RunOptions, RunState, TriggerType
from control_plane.domain.runner import Runner
from control_plane.domain.schedule import Schedule
from control_plane.domain.spec import StepKind
from control_plane.domain.task import Task
from control_plane.storage import writes
from control_plane.storage.database import Connection
from tests.fakes.clock import FakeClock

T0 = datetime(2030, 1, 1, 12, tzinfo=UTC)
SPEC = b"spec bytes"
SPEC_SHA256 = hashlib.sha256(SPEC).hexdigest()
PROJECT_ID = ProjectId("0190aaaa-0000-7000-8000-000000000001")
USER_ID = PrincipalId("0190aaaa-0000-7000-8000-000000000002")


def later(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


class Things:
    """Makes entities with fresh ids from a clock that stands still."""

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock(start=T0)

    def foundations(self, conn: Connection) -> None:
        """The rows that everything else refers to."""
        writes.insert_project(conn, self.project(id=PROJECT_ID, name="default"))
        writes.insert_principal(conn, self.principal(id=USER_ID), created_by="")
        writes.insert_spec(conn, SPEC_SHA256, SPEC, T0)

    def project(self, **more: object) -> Project:
        base: dict[str, object] = {"id": ProjectId(self.clock.new_id()), "name": "p", "created_by": USER_ID}
        return Project(**(base | {"created_at": T0, "updated_at": T0, "etag": "1"} | more))  # type: ignore[arg-type]

    def principal(self, **more: object) -> Principal:
        base: dict[str, object] = {"id": PrincipalId(self.clock.new_id()), "kind": PrincipalKind.USER, "name": "ada"}
        return Principal(**(base | {"created_at": T0} | more))  # type: ignore[arg-type]

    def token(self, **more: object) -> Token:
        base: dict[str, object] = {"id": TokenId(self.clock.new_id()), "principal_id": USER_ID, "created_at": T0}
        return Token(**(base | {"secret_digest": self.clock.new_id()} | more))  # type: ignore[arg-type]

    def runner(self, **more: object) -> Runner:
        base: dict[str, object] = {"id": RunnerId(self.clock.new_id()), "created_at": T0, "slots": 4}
        named = {"name": f"runner-{base['id']}"}
        return Runner(**(base | named | more))  # type: ignore[arg-type]

    def task(self, **more: object) -> Task:
        base: dict[str, object] = {"id": TaskId(self.clock.new_id()), "project_id": PROJECT_ID, "name": "build"}
        rest = {"spec_sha256": SPEC_SHA256, "created_by": USER_ID, "owner": USER_ID}
        times = {"created_at": T0, "updated_at": T0, "etag": "1"}
        return Task(**(base | rest | times | more))  # type: ignore[arg-type]

    def run(self, **more: object) -> Run:
        base: dict[str, object] = {"id": RunId(self.clock.new_id()), "project_id": PROJECT_ID}
        rest = {"state": RunState.QUEUED, "spec_sha256": SPEC_SHA256, "trigger_type": TriggerType.MANUAL}
        born = {"created_by": USER_ID, "created_at": self.clock.now()}
        return Run(**(base | rest | born | more))  # type: ignore[arg-type]

    def full_run(self) -> Run:
        """A run whose every column differs from its default."""
        return self.run(
            state=RunState.CANCELLED,
            task_id=TaskId(self.clock.new_id()),
            task_name="bäckup",
            reason=Reason.USER_CANCEL,
            error_message="cancelled by ada",
            options=RunOptions(
                title="t",
                trigger_metadata={"k": "v"},
                priority=-7,
                not_before=later(1),
                deadline=later(2),
                labels={"os": "linux"},
                links=(Link(rel="pr", title="№ 1", url="https://example.org/1"),),
            ),
            priority=-7,
            not_before=later(1),
            queue_expires_at=later(3),
            queue_rank=0,
            lane="p/task:t",
            places=(Place(group="task:t", limit=2, on_limit=OnLimit.REJECT, name="task t"),),
            pinned=True,
            deadline=later(2),
            due_at=later(2),
            started_at=later(4),
            completed_at=later(5),
            settled_at=later(6),
            lease_epoch=(1 << 62) + 5,
            exit_code=0,
            signal=15,
            kill_confirmed=True,
            cancel_requested_at=later(4.5),
            cancel_reason=Reason.USER_CANCEL,
            cancelled_by="ada",
            cancel_note="enough",
            retry_of=RunId("r1"),
            root_run_id=RunId("r0"),
            tries=2,
            retry_count=1,
            infra_retries=3,
            rejected_count=4,
            schedule_id=ScheduleId("s"),
            scheduled_time=later(0.000001),
            result_data='{"a": 1}',
        )

    def attempt(self, run: Run, runner: Runner, **more: object) -> Attempt:
        base: dict[str, object] = {"run_id": run.id, "lease_epoch": 1, "runner_id": runner.id, "number": 1}
        named = {"runner_name": runner.name}
        return Attempt(**(base | named | {"state": AttemptState.OFFERED, "offered_at": T0} | more))  # type: ignore[arg-type]

    def full_attempt(self, run: Run, runner: Runner) -> Attempt:
        """An attempt whose every column differs from its default."""
        return self.attempt(
            run,
            runner,
            lease_epoch=(1 << 48) + 1,
            state_directory_id="dir",
            state=AttemptState.CANCELLED,
            number=3,
            slots=2,
            reason=Reason.USER_CANCEL,
            error_message="stopped",
            exit_code=143,
            signal=15,
            steps=(
                StepResult(index=0, kind=StepKind.MAIN, name="make", exit_code=1, started_at=T0, ended_at=later(1)),
            ),
            assigned_at=later(1),
            started_at=later(2),
            ended_at=later(3),
            stop=StopRecord(
                reason=Reason.USER_CANCEL,
                phase=StopPhase.KILLED,
                requested_at=later(2),
                signal="SIGTERM",
                grace_s=0.5,
                received_at=later(2.1),
                requested_by="ada",
                survivors=2,
            ),
            exit_stored=True,
            kill_confirmed=True,
            pid=4_000_000,
            boot_id="boot",
            cpu_s=0.25,
            max_rss_bytes=1 << 33,
            usage_source="wait4",
            survivors_killed=1,
            final_offset=10,
            expected_digest="ab",
            log_counted=False,
            gaps=(LogGap(from_offset=2, to_offset=4),),
            log_bytes=10,
            log_digest="ab",
            log_complete=True,
            log_sealed_at=later(4),
            released_at=later(5),
        )

    def event(self, run: Run, kind: RunEventType = RunEventType.CREATED, **more: object) -> RunEventRecord:
        base: dict[str, object] = {"run_id": run.id, "type": kind, "at": self.clock.now(), "lease_epoch": 0}
        return RunEventRecord(**(base | more))  # type: ignore[arg-type]

    def schedule(self, task: Task, **more: object) -> Schedule:
        base: dict[str, object] = {"id": ScheduleId(self.clock.new_id()), "project_id": PROJECT_ID, "name": "nightly"}
        rest = {"task_id": task.id, "task_name": task.name, "cron": "0 3 * * *", "created_by": USER_ID}
        return Schedule(**(base | rest | {"created_at": T0, "updated_at": T0, "etag": "1"} | more))  # type: ignore[arg-type]


def key(attempt: Attempt) -> AttemptKey:
    return AttemptKey(run_id=attempt.run_id, lease_epoch=attempt.lease_epoch)
