"""The control plane is killed while a run is concluded, and while the trail is signed: each is done, and once."""

from __future__ import annotations

import hashlib
import json
import uuid

import pytest
from banksman.v1 import artifact_pb2, report_pb2, run_pb2, spec_pb2, task_pb2

from tests.failpoints.scene import Scene
from tests.scenarios.specs import script, spec

LEFT = b"left behind\n"
JSON = task_pb2.REPORT_FORMAT_JSON
# A file is on disk and its row is not; the log is sealed and no report was made; it was made and is not stored. The
# long tests try all.
POINTS = ("artifacts_complete.before_commit", "release.after_commit", "reports_made.before_commit")


def concluded(scene: Scene) -> task_pb2.Task:
    """A task whose runs leave a file, and a report."""
    patterns = [spec_pb2.ArtifactPattern(path="left", required=True)]
    made = task_pb2.Task(
        name=f"concluded {uuid.uuid4()}",
        spec=spec(script("echo said; echo left behind > left"), artifacts=patterns),
        report=task_pb2.ReportSettings(enabled=True, formats=[JSON]),
    )
    return scene.house.doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=made))


@pytest.mark.parametrize("point", POINTS)
def test_files_and_reports_are_there_once_whenever_the_server_is_killed(scene: Scene, point: str) -> None:
    expect_concluded(scene, point)


def test_the_trail_is_whole_though_the_server_was_killed_while_it_was_signed(scene: Scene) -> None:
    expect_trail(scene, "before_commit")


def expect_concluded(scene: Scene, point: str) -> None:
    """A run whose server is killed there leaves its file and its report, each once, and is settled once."""
    made, house = concluded(scene), scene.house
    ran: list[run_pb2.Run] = []
    request = task_pb2.RunTaskRequest(task=made.id)
    scene.die(f"server.{point}:kill", lambda: ran.append(house.doors.tasks.RunTask(request)))
    scene.server_returns()
    scene.points.disarm()
    run = house.wait(ran[0].id)
    assert (run.state, len(run.attempts)) == (run_pb2.RUN_STATE_SUCCEEDED, 1)
    (artifact,) = house.doors.runs.ListArtifacts(artifact_pb2.ListArtifactsRequest(run=run.id)).artifacts
    assert (artifact.name, artifact.sha256) == ("left", hashlib.sha256(LEFT).hexdigest())
    (report,) = house.doors.reports.ListReports(report_pb2.ListReportsRequest(run=run.id)).reports
    found = json.loads(house.doors.reports.GetReport(report_pb2.GetReportRequest(run=run.id)).body)
    assert [(each["name"], each["state"]) for each in found["artifacts"]] == [("left", "COMPLETE")]
    assert (found["logs"][0]["head"], found["logs"][0]["complete"]) == ("said\n", True)
    kinds = [event.type for event in house.events(run.id)]
    assert kinds.count(run_pb2.RUN_EVENT_TYPE_SETTLED) == 1
    assert report.format == JSON
    files = [path for path in (house.server_directory / "artifacts").rglob("*") if run.id in path.parent.name]
    assert [path.read_bytes() for path in files] == [LEFT], "nothing is left of another try"


def expect_trail(scene: Scene, moment: str) -> None:
    """The trail is whole though the server is killed around the commit of a signed head."""
    house = scene.house
    first, second = str(house.root / f"first-{moment}.jsonl"), str(house.root / f"second-{moment}.jsonl")
    assert house.cli("audit", "export", "--to", first).returncode == 0
    concluded(scene)
    scene.die(f"server.audit_sign.{moment}:kill", lambda: house.cli("audit", "export", "--to", second))
    scene.server_returns()
    scene.points.disarm()
    for words in ((), ("--head", first)):
        done = house.cli("audit", "verify", *words)
        assert (done.returncode, b"is whole" in done.stderr) == (0, True), done.stderr
    assert house.cli("audit", "export", "--to", second).returncode == 0
    done = house.cli("audit", "verify", "--file", second, "--head", first)
    assert (done.returncode, b"is whole" in done.stderr) == (0, True), done.stderr
