"""A report of a run: what there is to tell about it, once its log is sealed and its artifacts are in or given up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from control_plane.domain.artifact import Artifact
from control_plane.domain.attempt import Attempt
from control_plane.domain.history import RunEventRecord
from control_plane.domain.ids import PrincipalId, ProjectId, ReportId, RunId
from control_plane.domain.run import Run
from control_plane.domain.spec import RunSpec
from control_plane.domain.task import ReportFormat

# Head and tail of each log; what lies between is counted.
LOG_HEAD_BYTES = 16 << 10
LOG_TAIL_BYTES = 16 << 10
# Of so many attempts, the newest ones, a report shows the log.
LOGS_SHOWN = 5
EVENTS_SHOWN = 500
ARTIFACTS_SHOWN = 500
# Of a value, and of a result, so much is shown.
VALUE_CHARACTERS = 4_096
RESULT_CHARACTERS = 64 << 10
# A larger one is not stored.
REPORT_BYTES = 2 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is known of a stored report; its body is read apart."""

    id: ReportId
    project_id: ProjectId
    created_by: PrincipalId
    created_at: datetime
    run_id: RunId
    format: ReportFormat
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """One format of a report, or why it could not be made."""

    format: ReportFormat
    body: bytes = b""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogExcerpt:
    """The ends of an attempt's log. Without `tail` the head is all there is to show."""

    head: bytes = b""
    tail: bytes = b""
    left_out_bytes: int = 0
    # Why there is nothing to show.
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """Everything that a report tells, but for the logs. Attempts come oldest first, artifacts so, too."""

    run: Run
    spec: RunSpec
    project_name: str
    creator_name: str
    attempts: tuple[Attempt, ...]
    events: tuple[RunEventRecord, ...]
    events_left_out: int = 0
    artifacts: tuple[Artifact, ...] = ()
    artifacts_left_out: int = 0


MEDIA_TYPES: Mapping[ReportFormat, str] = {
    ReportFormat.MARKDOWN: "text/markdown; charset=utf-8",
    ReportFormat.HTML: "text/html; charset=utf-8",
    ReportFormat.JSON: "application/json",
    ReportFormat.PDF: "application/pdf",
}


def chosen(reports: Sequence[Report], wanted: ReportFormat | None) -> Report | None:
    """The report of this format; without one the first that people like to read. The newest of two."""
    for each in MEDIA_TYPES if wanted is None else (wanted,):
        for report in reversed(reports):
            if report.format is each:
                return report
    return None
