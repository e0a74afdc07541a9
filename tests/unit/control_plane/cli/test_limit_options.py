"""Limits and retention as the command line says them."""

from __future__ import annotations

import pytest
from banksman.v1 import limit_pb2, project_pb2, run_pb2, spec_pb2, system_pb2, task_pb2
from google.protobuf.duration_pb2 import Duration

from tests.unit.control_plane.cli.console import banksman

REJECT, TASK, PROJECT = limit_pb2.ON_LIMIT_REJECT, limit_pb2.LIMIT_SCOPE_TASK, limit_pb2.LIMIT_SCOPE_PROJECT


def created(*args: str) -> spec_pb2.RunSpec:
    outcome = banksman(
        "run", "exec", "-d", *args, "--", "true", script=[("CreateRun", run_pb2.Run(id="r", is_active=True))]
    )
    assert outcome.exit_code == 0, outcome.stderr
    spec: spec_pb2.RunSpec = outcome.calls[0].request.spec
    return spec


def test_one_limit() -> None:
    words = (
        "--max-concurrent",
        "3",
        "--concurrency-key",
        "{{ b }}",
        "--limit-scope",
        "project",
        "--on-limit",
        "reject",
    )
    wanted = limit_pb2.ConcurrencyLimit(limit=3, key="{{ b }}", scope=PROJECT, on_limit=REJECT)
    assert list(created(*words).concurrency) == [wanted]
    assert list(created().concurrency) == []


def test_the_profile_of_background_tasks() -> None:
    spec = created("--profile", "background")
    wanted = limit_pb2.ConcurrencyLimit(limit=1, key="background", scope=PROJECT, on_limit=REJECT)
    assert (list(spec.concurrency), spec.timeout.seconds) == ([wanted], 3_600)
    assert created("--profile", "background", "--timeout", "5m").timeout.seconds == 300


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--on-limit", "reject"), "--max-concurrent N"),
        (("--concurrency-key", "k"), "--max-concurrent N"),
        (("--max-concurrent", "-1"), "out of range"),
        (("--profile", "background", "--max-concurrent", "2"), "--profile background"),
    ],
)
def test_what_makes_no_limit_is_refused(words: tuple[str, ...], said: str) -> None:
    outcome = banksman("run", "exec", "-d", *words, "--", "true", script=[])
    assert (outcome.exit_code != 0, said in outcome.stderr) == (True, True), outcome.stderr


def test_a_task_loses_its_limit_with_0() -> None:
    limit = limit_pb2.ConcurrencyLimit(limit=3)
    stored = task_pb2.Task(id="t", name="build", spec=spec_pb2.RunSpec(concurrency=[limit]))
    outcome = banksman(
        "task", "update", "build", "--max-concurrent", "0", script=[("GetTask", stored), ("UpdateTask", stored)]
    )
    assert outcome.exit_code == 0, outcome.stderr
    assert list(outcome.calls[1].request.task.spec.concurrency) == []


def test_a_projects_settings() -> None:
    kept = limit_pb2.Retention(runs=Duration(seconds=5), logs=Duration(seconds=6))
    stored = project_pb2.Project(id="p", name="web", retention=kept)
    words = ("--max-concurrent", "4", "--on-limit", "drop-new", "--keep-runs", "90d", "--keep-logs", "default")
    script = [("GetProject", stored), ("UpdateProject", stored)]
    outcome = banksman("project", "update", "web", *words, "--keep-log-bytes", "7", script=script)
    assert outcome.exit_code == 0, outcome.stderr
    sent = outcome.calls[1].request.project
    assert sent.concurrency == limit_pb2.ConcurrencyLimit(limit=4, on_limit=limit_pb2.ON_LIMIT_DROP_NEW)
    assert sent.retention == limit_pb2.Retention(runs=Duration(seconds=90 * 86_400), log_bytes=7)


def test_what_goes_is_counted() -> None:
    found = system_pb2.Garbage(project="web", runs=2, logs=3, log_bytes=1024, artifacts=1, artifact_bytes=1024)
    answer = system_pb2.CollectGarbageResponse(garbage=[found])
    outcome = banksman("system", "gc", "--dry-run", script=[("CollectGarbage", answer)])
    assert outcome.calls[0].request.dry_run
    assert "would remove 2 runs, 3 logs and 1 artifact, 2.0 KiB" in outcome.stderr


def test_what_is_no_duration_is_refused_with_its_option() -> None:
    outcome = banksman(
        "project", "update", "web", "--keep-logs", "soon", script=[("GetProject", project_pb2.Project())]
    )
    assert outcome.exit_code == 2
    assert "Invalid value for '--keep-logs': 'soon' is not a duration" in outcome.stderr
