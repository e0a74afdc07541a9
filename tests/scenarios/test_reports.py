"""Reports of runs: made by real servers from real logs before the run is settled, whatever the run printed."""

from __future__ import annotations

import hashlib
import json
from html.parser import HTMLParser
from typing import Any

import grpc
import pytest
from banksman.v1 import report_pb2, run_pb2, task_pb2
from google.protobuf.struct_pb2 import Value

from tests.scenarios.house import House
from tests.scenarios.specs import spec

FORMATS = [number for number in task_pb2.ReportFormat.values() if number]
NASTY = "\x1b]0;title\x07\x1b[31mred\x1b[0m </pre><script>alert(1)</script> ``` | x\r\n"


def task(house: House, name: str, *argv: str, formats: list[int] | None = None, **fields: Any) -> task_pb2.Task:
    report = task_pb2.ReportSettings(enabled=True, formats=FORMATS if formats is None else formats)  # type: ignore[arg-type]
    made = task_pb2.Task(name=name, spec=spec(argv), report=report, **fields)
    return house.doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=made))


def run(house: House, made: task_pb2.Task, **options: Any) -> run_pb2.Run:
    request = task_pb2.RunTaskRequest(task=made.id, options=run_pb2.RunOptions(**options))
    return house.doors.tasks.RunTask(request)


def report(house: House, run_id: str, form: int) -> report_pb2.GetReportResponse:
    return house.doors.reports.GetReport(report_pb2.GetReportRequest(run=run_id, format=form))  # type: ignore[arg-type]


class Page(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def told(shared_house: House) -> tuple[House, run_pb2.Run]:
    """A run with everything in it: variables, two attempts' worth of nasty output, a result."""
    house = shared_house
    variables = [
        task_pb2.Variable(name="who", default_value=Value(string_value="<b>world</b>")),
        task_pb2.Variable(name="password", sensitive=True),
    ]
    code = 'printf %s "$2"; seq 1 20000; echo the end; printf \'{"built": 3}\' > "$BANKSMAN_RESULT"; exit 3'
    made = task(house, "told", "sh", "-c", code, "sh", "{{ who }}", NASTY, variables=variables)
    secret = Value(string_value="correct horse battery")
    started = run(house, made, title="a <title>", variables={"password": secret}, sensitive_variables=["password"])
    return house, house.wait(started.id)


@pytest.fixture(scope="module")
def shared_house() -> Any:
    with House() as house:
        house.agent("one")
        yield house


def test_a_run_is_settled_when_its_reports_are_there(told: tuple[House, run_pb2.Run]) -> None:
    house, ended = told
    assert ended.state == run_pb2.RUN_STATE_FAILED
    listed = house.doors.reports.ListReports(report_pb2.ListReportsRequest(run=ended.id)).reports
    assert [each.format for each in listed] == FORMATS
    events = house.doors.runs.ListRunEvents(run_pb2.ListRunEventsRequest(run=ended.id)).events
    assert events[-1].type == run_pb2.RUN_EVENT_TYPE_SETTLED
    for each in listed:
        got = report(house, ended.id, each.format)
        assert got.report == each
        assert (len(got.body), hashlib.sha256(got.body).hexdigest()) == (each.size_bytes, each.sha256)
        assert b"correct horse" not in got.body


def test_json_tells_everything(told: tuple[House, run_pb2.Run]) -> None:
    house, ended = told
    found = json.loads(report(house, ended.id, task_pb2.REPORT_FORMAT_JSON).body)
    assert found["run"]["id"] == ended.id
    assert (found["run"]["state"], found["run"]["exit_code"]) == ("FAILED", 3)
    variables = {each["name"]: (each["value"], each["sensitive"]) for each in found["variables"]}
    assert variables == {"who": ("<b>world</b>", False), "password": ("***", True)}
    assert found["result"] == {"built": 3}
    assert found["timing"]["duration_s"] >= 0
    (attempt,) = found["attempts"]
    assert (attempt["runner"], attempt["state"], len(attempt["steps"])) == ("one", "FAILED", 1)
    (log,) = found["logs"]
    assert log["head"].startswith("red </pre><script>alert(1)</script> ``` | x\n1\n2\n")
    assert log["tail"].endswith("19999\n20000\nthe end\n")
    assert log["left_out_bytes"] == log["bytes"] - (32 << 10)
    assert {"CREATED", "STARTED", "FAILED"} <= {each["type"] for each in found["events"]}


def test_what_a_run_prints_is_no_markup(told: tuple[House, run_pb2.Run]) -> None:
    house, ended = told
    page = Page(report(house, ended.id, task_pb2.REPORT_FORMAT_HTML).body.decode())
    assert not page.tags & {"script", "b", "img"}
    assert "<script>alert(1)</script>" in page.text
    assert "a <title>: FAILED" in page.text
    markdown = report(house, ended.id, task_pb2.REPORT_FORMAT_MARKDOWN).body.decode()
    assert markdown.startswith("# a \\<title>: FAILED\n")
    assert "````text\nred </pre><script>" in markdown, "the fence is longer than any within"
    assert "\x1b" not in markdown
    assert report(house, ended.id, task_pb2.REPORT_FORMAT_PDF).body.startswith(b"%PDF-")


def test_the_cli_prints_lists_and_writes_reports(told: tuple[House, run_pb2.Run]) -> None:
    house, ended = told
    printed = house.cli("run", "report", ended.id)
    assert printed.stdout == report(house, ended.id, task_pb2.REPORT_FORMAT_MARKDOWN).body
    path = house.root / "report.pdf"
    assert house.cli("run", "report", ended.id, "--format", "pdf", "--to", str(path)).returncode == 0
    assert path.read_bytes().startswith(b"%PDF-")
    assert b"\nreports: json, markdown, html, pdf\n" in house.cli("run", "get", ended.id, "--log-lines", "0").stdout
    listed = json.loads(house.cli("run", "report", ended.id, "--list", "-o", "json").stdout)
    assert len(listed) == len(FORMATS)


def test_what_was_not_asked_for_is_not_there(shared_house: House) -> None:
    house = shared_house
    made = task(house, "only json", "true", formats=[task_pb2.REPORT_FORMAT_JSON])
    ended = house.wait(run(house, made).id)
    with pytest.raises(grpc.RpcError) as caught:
        report(house, ended.id, task_pb2.REPORT_FORMAT_HTML)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert report(house, ended.id, 0).report.format == task_pb2.REPORT_FORMAT_JSON
    cancelled = run(house, made)
    house.cancel(cancelled.id)
    assert house.wait(cancelled.id).HasField("settled_at")
    assert report(house, cancelled.id, 0).report.run_id == cancelled.id


@pytest.mark.parametrize("formats", [[], [99], [task_pb2.REPORT_FORMAT_JSON] * 2])
def test_a_task_whose_report_has_no_valid_format_is_refused(shared_house: House, formats: list[int]) -> None:
    house = shared_house
    with pytest.raises(grpc.RpcError) as caught:
        task(house, "refused", "true", formats=formats)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    name = f"kept {len(formats)} {sum(formats)}"
    kept = task(house, name, "true", formats=[task_pb2.REPORT_FORMAT_JSON])
    wrong = task_pb2.Task(id=kept.id, report=task_pb2.ReportSettings(enabled=True, formats=formats))  # type: ignore[arg-type]
    with pytest.raises(grpc.RpcError) as caught:
        house.doors.tasks.UpdateTask(task_pb2.UpdateTaskRequest(task=wrong, update_mask={"paths": ["report"]}))  # type: ignore[arg-type]
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "task.report.formats" in str(caught.value.trailing_metadata()) + caught.value.details()


def test_reports_go_with_their_run(shared_house: House) -> None:
    house = shared_house
    made = task(house, "deleted", "true", formats=[task_pb2.REPORT_FORMAT_JSON])
    ended = house.wait(run(house, made).id)
    house.doors.runs.DeleteRun(run_pb2.DeleteRunRequest(run=ended.id))
    with pytest.raises(grpc.RpcError) as caught:
        report(house, ended.id, 0)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
