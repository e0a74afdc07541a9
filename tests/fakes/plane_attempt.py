"""What the fake control plane knows of one attempt, and how it judges what a runner says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from banksman.v1 import run_pb2 as run
from banksman.v1 import session_pb2 as pb
from banksman.v1 import spec_pb2 as spec
from google.protobuf.duration_pb2 import Duration

from runner_agent.shim.digest import LogDigest

Key = tuple[str, int]


def wire_key(key: Key) -> pb.AttemptKey:
    return pb.AttemptKey(run_id=key[0], lease_epoch=key[1])


def duration(value_s: float) -> Duration:
    made = Duration()
    made.FromNanoseconds(int(value_s * 1e9))
    return made


@dataclass(slots=True)
class FakeAttempt:
    """What the control plane knows of one attempt."""

    key: Key
    spec: spec.RunSpec
    secrets: dict[str, bytes] = field(default_factory=dict)
    lost_after_s: float = 3_600.0
    state: str = "OFFERED"
    rejected: pb.OfferReply | None = None
    holder: str = ""
    pid: int = 0
    starts: int = 0
    stop: pb.Stop | None = None
    stop_phases: list[int] = field(default_factory=list)
    steps: list[run.StepResult] = field(default_factory=list)
    exit: pb.ExitRecord | None = None
    log: bytearray = field(default_factory=bytearray)
    records: list[tuple[int, int, bytes]] = field(default_factory=list)
    digest: LogDigest = field(default_factory=LogDigest)
    released: bool = False
    renewals: int = 0

    @property
    def over(self) -> bool:
        return self.exit is not None

    @property
    def sealed(self) -> bool:
        """Whether every byte of its log is here."""
        if self.exit is None or self.digest.offset != self.exit.final_offset:
            return False
        return self.exit.digest in ("", self.digest.hex())

    def text(self, kind: int | None = None) -> bytes:
        return b"".join(data for was, _, data in self.records if kind in (None, was))

    def assignment(self) -> pb.Assignment:
        return pb.Assignment(
            key=wire_key(self.key),
            spec=self.spec,
            secrets=self.secrets,
            lost_after=duration(self.lost_after_s),
            project_name="default",
            task_name="a-task",
            attempt_number=1,
        )

    def verdict(self, entry: pb.HeldAttempt) -> pb.Verdict:
        """On one entry of an inventory or a heartbeat."""
        verdict = pb.Verdict(key=entry.key)
        verdict.resume_offset = self.digest.offset
        if self.state in ("FENCED", "REJECTED"):
            verdict.kind = pb.VERDICT_KIND_FENCED
            if entry.phase == pb.HELD_PHASE_EXITED:
                self.store_exit(entry.exit if entry.HasField("exit") else None)
                verdict.kind = pb.VERDICT_KIND_RELEASE
            return verdict
        verdict.renewed = True
        self.renewals += 1
        if entry.phase == pb.HELD_PHASE_EXITED:
            self.store_exit(entry.exit if entry.HasField("exit") else None)
            verdict.exit_stored = self.over
            verdict.kind = pb.VERDICT_KIND_KEEP if self.over else pb.VERDICT_KIND_SEND_EXIT
            if self.sealed:
                self.released = True
                verdict.kind = pb.VERDICT_KIND_RELEASE
        elif self.stop is not None:
            verdict.kind = pb.VERDICT_KIND_STOP
            verdict.stop.CopyFrom(self.stop)
        elif entry.phase == pb.HELD_PHASE_ACCEPTED:
            self.state = "STARTING"
            verdict.kind = pb.VERDICT_KIND_START
            verdict.assignment.CopyFrom(self.assignment())
        else:
            verdict.kind = pb.VERDICT_KIND_KEEP
            if entry.phase == pb.HELD_PHASE_RUNNING:
                self.state = "RUNNING"
        return verdict

    def store_exit(self, record: pb.ExitRecord | None) -> None:
        """The first one stays."""
        if record is not None and self.exit is None:
            self.exit = record
            self.state = "OVER"

    def take(self, chunk: pb.LogChunk) -> None:
        """Bytes that are not here yet; the chunk begins at or before the end."""
        at = chunk.offset
        for record in chunk.records:
            if record.gap_bytes:
                self.digest.gap(at + record.gap_bytes)
                at += record.gap_bytes
                continue
            fresh = record.data[max(0, self.digest.offset - at) :]
            at += len(record.data)
            if fresh:
                self.digest.data(fresh)
                self.log += fresh
                self.records.append((record.kind, record.step, fresh))


def command(*argv: str, **changes: Any) -> spec.RunSpec:
    """A spec of one MAIN step."""
    return spec.RunSpec(
        steps=[spec.Step(kind=spec.STEP_KIND_MAIN, command=spec.Command(argv=argv))], slots=1, **changes
    )


def shell(text: str, **changes: Any) -> spec.RunSpec:
    """A spec of one MAIN step that is a script for /bin/sh."""
    return spec.RunSpec(
        steps=[spec.Step(kind=spec.STEP_KIND_MAIN, command=spec.Command(script=text))], slots=1, **changes
    )
