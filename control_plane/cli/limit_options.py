"""The options about limits: how many runs at once, and how long a project keeps things."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import click

from control_plane.cli import contract
from control_plane.cli.commands import Seconds
from control_plane.cli.durations import written_duration
from control_plane.cli.errors import CliError
from control_plane.cli.output import to_seconds

F = TypeVar("F", bound=Callable[..., Any])

ON_LIMIT = ("queue", "reject", "cancel-running", "drop-new")
HOUR_S = 3_600
DEFAULT = "default"

SPEC_LIMITS = [
    click.option("--max-concurrent", type=int, metavar="N", help="At most N of them at once; 0: no limit."),
    click.option("--concurrency-key", metavar="KEY", help="Only runs with this key count; may hold {{ name }}."),
    click.option("--limit-scope", type=click.Choice(["task", "project"]), help="Whose runs count (default: task)."),
    click.option("--on-limit", type=click.Choice(ON_LIMIT), help="If it is reached (default: queue)."),
    click.option(
        "--profile",
        type=click.Choice(["background"]),
        help="background: one at a time in the project, else refused; 1 h at most.",
    ),
]
PROJECT_OPTIONS = [
    click.option("--max-concurrent", type=int, metavar="N", help="At most N runs at once; 0: no limit."),
    click.option("--on-limit", type=click.Choice(ON_LIMIT), help="If it is reached (default: queue)."),
    click.option("--keep-runs", metavar="DURATION", help='Remove runs after so long, e.g. 90d, or "default".'),
    click.option("--keep-logs", metavar="DURATION", help='Remove logs after so long, or "default".'),
    click.option("--keep-artifacts", metavar="DURATION", help='Remove artifacts after so long, or "default".'),
    click.option("--keep-log-bytes", type=int, metavar="BYTES", help="Remove the oldest logs beyond; 0: no limit."),
]
PROJECT_NAMES = ("max_concurrent", "on_limit", "keep_runs", "keep_logs", "keep_artifacts", "keep_log_bytes")


class SaysLimits(Protocol):
    """What the command line said of limits; None where it was silent."""

    @property
    def max_concurrent(self) -> int | None: ...
    @property
    def concurrency_key(self) -> str | None: ...
    @property
    def limit_scope(self) -> str | None: ...
    @property
    def on_limit(self) -> str | None: ...
    @property
    def profile(self) -> str | None: ...


def set_limits(given: SaysLimits, spec: contract.spec_pb2.RunSpec) -> None:
    """The one limit that the options describe; several are for a file. Raises CliError."""
    said = (given.max_concurrent, given.concurrency_key, given.limit_scope, given.on_limit)
    if given.profile == "background":
        if any(value is not None for value in said):
            raise CliError("--profile background is a limit of its own: leave the other options of limits out")
        _background(spec)
        return
    if all(value is None for value in said):
        return
    if given.max_concurrent == 0:
        del spec.concurrency[:]
        return
    if len(spec.concurrency) > 1:
        raise CliError("the spec has several limits; change them in a file (-f)")
    if not spec.concurrency:
        if given.max_concurrent is None:
            raise CliError("say how many: --max-concurrent N")
        spec.concurrency.add()
    limit = spec.concurrency[0]
    _limit(limit, given.max_concurrent, given.on_limit)
    if given.concurrency_key is not None:
        limit.key = given.concurrency_key
    if given.limit_scope is not None:
        limit.scope = contract.limit_pb2.LimitScope.Value(f"LIMIT_SCOPE_{given.limit_scope.upper()}")


def _background(spec: contract.spec_pb2.RunSpec) -> None:
    del spec.concurrency[:]
    pb = contract.limit_pb2
    spec.concurrency.add(limit=1, key="background", scope=pb.LIMIT_SCOPE_PROJECT, on_limit=pb.ON_LIMIT_REJECT)
    if not spec.HasField("timeout"):
        spec.timeout.FromSeconds(HOUR_S)


def _limit(limit: contract.limit_pb2.ConcurrencyLimit, count: int | None, on_limit: str | None) -> None:
    if count is not None:
        if not 0 < count < 1 << 31:
            raise CliError(f"--max-concurrent {count} is out of range")
        limit.limit = count
    if on_limit is not None:
        limit.on_limit = contract.limit_pb2.OnLimit.Value(f"ON_LIMIT_{on_limit.upper().replace('-', '_')}")


def set_project(project: contract.project_pb2.Project, said: dict[str, Any]) -> None:
    """What the options of a project describe. Raises CliError."""
    count, on_limit = said["max_concurrent"], said["on_limit"]
    if count == 0:
        project.ClearField("concurrency")
    elif count is not None or on_limit is not None:
        if count is None and not project.HasField("concurrency"):
            raise CliError("say how many: --max-concurrent N")
        _limit(project.concurrency, count, on_limit)
    for name in ("runs", "logs", "artifacts"):
        text = said[f"keep_{name}"]
        if text == DEFAULT:
            project.retention.ClearField(name)
        elif text is not None:
            try:
                seconds = Seconds().convert(text, None, None)
            except click.BadParameter as error:
                error.param_hint = f"'--keep-{name}'"
                raise
            kept = getattr(project.retention, name)
            kept.SetInParent()
            kept.FromNanoseconds(round(seconds * 1e9))
    if said["keep_log_bytes"] is not None:
        try:
            project.retention.log_bytes = said["keep_log_bytes"]
        except ValueError as error:
            raise CliError("--keep-log-bytes is out of range", cause=str(error)) from error


def project_options(function: F) -> F:
    """Add the options of a project's limits."""
    for option in reversed(PROJECT_OPTIONS):
        function = option(function)
    return function


def retention_text(project: contract.project_pb2.Project) -> str:
    """For how long what runs leave is kept, such as: runs 30d, logs 1d, log bytes 1000000000."""
    kept = project.retention
    parts = [
        f"{name} {written_duration(to_seconds(getattr(kept, name)))}"
        for name in ("runs", "logs", "artifacts")
        if kept.HasField(name)
    ]
    if kept.log_bytes:
        parts.append(f"log bytes {kept.log_bytes}")
    return ", ".join(parts) or "as the server says"


def limit_text(limit: contract.limit_pb2.ConcurrencyLimit) -> str:
    """A limit in words, such as: 3 (key main, reject)."""
    pb = contract.limit_pb2
    words = [f"key {limit.key}"] if limit.key else []
    if limit.scope == pb.LIMIT_SCOPE_PROJECT:
        words.append("of the project")
    if limit.on_limit not in (pb.ON_LIMIT_UNSPECIFIED, pb.ON_LIMIT_QUEUE):
        words.append(pb.OnLimit.Name(limit.on_limit).removeprefix("ON_LIMIT_").lower().replace("_", "-"))
    return f"{limit.limit} ({', '.join(words)})" if words else str(limit.limit)
