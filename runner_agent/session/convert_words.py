"""What a run says of itself and what it has used, as the wire has it."""

from __future__ import annotations

from banksman.v1 import run_pb2 as run

from runner_agent.domain.exit_report import Progress, Usage
from runner_agent.session.convert_values import text, timestamp


def progress_message(progress: Progress) -> run.Progress:
    """How far the run says it has come."""
    return run.Progress(
        percent=progress.percent,
        stage=text(progress.stage),
        note=text(progress.note),
        updated_at=timestamp(progress.at_ns or None),
    )


def usage_message(usage: Usage) -> run.ResourceUsage:
    """What the attempt has used; what is not known stays absent."""
    return run.ResourceUsage(
        cpu_s=usage.cpu_s,
        cpu_source=usage.cpu_source,
        max_rss_bytes=usage.max_rss_bytes,
        max_rss_source=usage.max_rss_source,
        read_bytes=usage.read_bytes,
        written_bytes=usage.written_bytes,
        io_source=usage.io_source,
    )
