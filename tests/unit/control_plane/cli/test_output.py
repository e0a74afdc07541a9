"""The five forms of output."""

from __future__ import annotations

import datetime
import io
import json
import pathlib

import pytest
import yaml
from banksman.v1 import report_pb2, run_pb2, spec_pb2, task_pb2
from google.protobuf import duration_pb2, timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from control_plane.cli.durations import format_duration, parse_duration, written_duration
from control_plane.cli.output import Printer, color_wanted, relative
from control_plane.cli.task_views import TASK
from control_plane.cli.times import parse_time
from control_plane.cli.views import RUN
from control_plane.cli.words import run_title
from tests.unit.control_plane.cli.console import NOW, banksman

ID = "0199aaaa-bbbb-7ccc-8ddd-eeee12345678"


def a_run(**fields: object) -> run_pb2.Run:
    return run_pb2.Run(
        id=ID,
        state=run_pb2.RUN_STATE_FAILED,
        reason=run_pb2.REASON_EXIT_NONZERO,
        error_message="it exited with code 3",
        created_at=timestamp_pb2.Timestamp(seconds=int(NOW.timestamp()) - 90),
        duration=duration_pb2.Duration(seconds=12, nanos=400_000_000),
        exit_code=3,
        **fields,  # type: ignore[arg-type]
    )


def printed(form: str, *runs: run_pb2.Run, terminal: bool = False, color: bool = False) -> str:
    stream = io.StringIO()
    printer = Printer(form=form, stream=stream, terminal=terminal, color=color, now=lambda: NOW)
    printer.rows(iter(runs), RUN)
    return stream.getvalue()


def test_a_pipe_gets_tabs_whole_ids_and_utc_times() -> None:
    titles, row = printed("table", a_run()).splitlines()
    cells = dict(zip(titles.split("\t"), row.split("\t"), strict=True))
    assert cells["ID"] == ID
    assert cells["STATE"] == "FAILED"
    assert cells["CREATED"] == "2026-01-02T11:58:30.000Z"
    assert cells["DURATION"] == "12.400"
    assert cells["WHY"] == "it exited with code 3"


def test_a_narrow_terminal_gets_a_line_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    wordy = a_run(options=run_pb2.RunOptions(title="a rather long title for a run that does many things at once"))
    wordy.error_message = "The program could not be started: program 'nosuchprogram' was not found in PATH."
    lines = printed("table", wordy, a_run(), terminal=True).splitlines()
    assert len(lines) == 3
    assert all(len(line) <= 80 for line in lines)
    assert "12345678" in lines[1]
    assert "FAILED" in lines[1]
    assert "…" in lines[1]


def test_what_does_not_fit_is_folded_and_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = io.StringIO()
    printer = Printer(form="table", stream=stream, terminal=True, color=False, now=lambda: NOW)
    printer.table(["ID", "NOTE"], [[ID * 2, "of some length"]])
    ids = "".join(line.split("  ")[0].strip() for line in stream.getvalue().splitlines()[1:])
    assert ids == ID * 2


def test_a_terminal_gets_short_ids_and_relative_times() -> None:
    shown = printed("table", a_run(), terminal=True)
    assert "12345678" in shown
    assert ID not in shown
    assert "1m 30s ago" in shown
    assert "\x1b[3" not in shown, "no colour unless wanted"
    assert "\x1b[31m" in printed("table", a_run(), terminal=True, color=True)


def test_a_title_cannot_steer_the_terminal_nor_break_a_row() -> None:
    evil = a_run(options=run_pb2.RunOptions(title="a\x1b[2J\tb\nc\x9b[bold]"))
    for terminal in (False, True):
        shown = printed("table", evil, terminal=terminal)
        assert "\x1b[2J" not in shown
        assert "\x9b" not in shown
    assert len(printed("table", evil).splitlines()) == 2
    assert "\x9b" not in printed("json", evil)
    assert json.loads(printed("json", evil))[0]["options"]["title"] == "a\x1b[2J\tb\nc\x9b[bold]"


def test_json_names_every_field_also_unset_ones() -> None:
    (data,) = json.loads(printed("json", a_run()))
    assert data["state"] == "RUN_STATE_FAILED"
    assert data["waiting_because"] == ""
    assert data["lease_epoch"] == "0"
    assert data["duration"] == "12.400s"
    names = [field.name for field in run_pb2.Run.DESCRIPTOR.fields]
    assert list(data) == [name for name in names if name in data], "in the order of the contract"


def test_jsonl_is_one_object_a_line() -> None:
    lines = printed("jsonl", a_run(), a_run()).splitlines()
    assert [json.loads(line)["id"] for line in lines] == [ID, ID]


def test_yaml_and_name() -> None:
    assert yaml.safe_load(printed("yaml", a_run()))[0]["error_message"] == "it exited with code 3"
    assert printed("name", a_run(), a_run()) == f"{ID}\n{ID}\n"
    assert printed("json") == "[]\n"


def test_a_script_is_readable_in_yaml() -> None:
    task = task_pb2.Task(name="t")
    task.spec.steps.add(command=spec_pb2.Command(script="set -e\nmake\n"))
    stream = io.StringIO()
    Printer(form="yaml", stream=stream, terminal=False, color=False, now=lambda: NOW).one(task, TASK)
    assert "script: |" in stream.getvalue()


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "yaml", "name"])
def test_every_form_through_the_program(form: str) -> None:
    page = run_pb2.ListRunsResponse(runs=[a_run()])
    outcome = banksman("run", "list", "-o", form, script=[("ListRuns", page)])
    assert ID in outcome.stdout


def test_no_color_is_obeyed() -> None:
    assert color_wanted({})
    assert not color_wanted({"NO_COLOR": "1"})
    assert not color_wanted({"TERM": "dumb"})


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [("90s", 90), ("5m", 300), ("1h30m", 5400), ("2d", 172800), ("250ms", 0.25), ("1.5s", 1.5), ("0", 0), ("7", 7)],
)
def test_durations_are_read(text: str, duration_s: float) -> None:
    assert parse_duration(text) == duration_s


@pytest.mark.parametrize("text", ["", "m", "5x", "-5s", "5m tomorrow", "1h-3m", "999999999999d", "٣s", "5 m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|longer"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**9))
def test_a_printed_duration_can_be_read_again(duration_s: int) -> None:
    text = format_duration(float(duration_s)).replace(".0 s", "s").replace(" ", "")
    assert parse_duration(text) <= duration_s
    assert duration_s - parse_duration(text) <= max(86_400, duration_s * 0.05) or duration_s < 60


def test_relative_times_of_both_sides() -> None:
    hour = datetime.timedelta(hours=1)
    assert relative(NOW - hour, NOW) == "1h ago"
    assert relative(NOW + hour, NOW) == "in 1h"
    assert relative(NOW, NOW) == "now"


@given(st.integers(min_value=0, max_value=10**12))
def test_a_written_duration_is_read_back_as_it_was(duration_ms: int) -> None:
    assert round(parse_duration(written_duration(duration_ms / 1000)) * 1000) == duration_ms


def test_a_period_is_shown_as_it_is_given() -> None:
    assert [written_duration(given_s) for given_s in (0, 90, 3600, 86400, 0.25)] == ["0s", "1m30s", "1h", "1d", "250ms"]


def test_a_run_is_called_by_its_title_its_task_its_template_or_its_command() -> None:
    run = run_pb2.Run()
    run.spec.steps.add().command.argv.extend(["make", "all"])
    assert run_title(run) == "make all"
    run.template_name = "deploy"
    assert run_title(run) == "template deploy"
    run.task_name = "nightly"
    assert run_title(run) == "nightly"
    run.options.title = "by hand"
    assert run_title(run) == "by hand"


def test_now_is_a_point_in_time() -> None:
    assert parse_time("now", NOW) == parse_time(" Now", NOW, ahead=True) == NOW


@pytest.mark.parametrize("line", ["apply -f", "task create x -f", "task create x --script"])
def test_a_file_that_is_not_there_is_told_without_numbers(line: str) -> None:
    outcome = banksman(*line.split(), "/nonexistent")
    assert outcome.exit_code == 2
    assert "cause: No such file or directory\n" in outcome.stderr


@pytest.mark.parametrize(
    ("name", "more", "asked"),
    [
        ("r.pdf", [], task_pb2.REPORT_FORMAT_PDF),
        ("r.HTML", [], task_pb2.REPORT_FORMAT_HTML),
        ("r.txt", [], task_pb2.REPORT_FORMAT_UNSPECIFIED),
        ("pdf", [], task_pb2.REPORT_FORMAT_UNSPECIFIED),
        ("r.pdf", ["--format", "md"], task_pb2.REPORT_FORMAT_MARKDOWN),
    ],
)
def test_a_reports_file_says_by_its_ending_which_report_it_is(
    tmp_path: pathlib.Path, name: str, more: list[str], asked: task_pb2.ReportFormat
) -> None:
    answer = report_pb2.GetReportResponse(body=b"x", media_type="text/plain")
    outcome = banksman("run", "report", "r", "--to", str(tmp_path / name), *more, script=[("GetReport", answer)])
    assert outcome.calls[0].request.format == asked
    assert (tmp_path / name).read_bytes() == b"x"
