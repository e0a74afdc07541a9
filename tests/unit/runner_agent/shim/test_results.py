"""What a run leaves as its result is taken whole or not at all, with the reason; progress never goes back."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from runner_agent.shim import files
from runner_agent.shim.attempt_files import encode_record
from runner_agent.shim.mask import NeedleSet
from runner_agent.shim.messages import Outcome, Reason
from runner_agent.shim.orders import Verdict
from runner_agent.shim.remains import never_executed
from runner_agent.shim.results import MAX_RESULT_BYTES, RELAY_S, Words, read_result_file
from runner_agent.shim.verdict import failed_validation


def written(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "result.json"
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"a": [1, 2.5, null]}\n', '{"a":[1,2.5,null]}'),
        (b"42", "42"),
        ('"\u00e9"'.encode(), '"\u00e9"'),
        (json.dumps("x" * (MAX_RESULT_BYTES - 2)).encode(), json.dumps("x" * (MAX_RESULT_BYTES - 2))),
    ],
)
def test_json_is_taken(tmp_path: Path, data: bytes, text: str) -> None:
    assert read_result_file(written(tmp_path, data)) == (text, "")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"{", "not JSON"),
        (b"NaN", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b'"\\ud800"', "not UTF-8"),
        (b"[" * 100_000, "deep"),
        (json.dumps("x" * (MAX_RESULT_BYTES - 1)).encode(), "larger than 262144 bytes"),
        (b" " * (MAX_RESULT_BYTES + 1) + b"{}", ""),
    ],
)
def test_anything_else_is_not_and_the_reason_is_said(tmp_path: Path, data: bytes, why: str) -> None:
    text, error = read_result_file(written(tmp_path, data))
    assert text is None
    assert why in error


def test_nothing_is_no_error(tmp_path: Path) -> None:
    assert read_result_file(str(tmp_path / "none")) == (None, "")
    assert read_result_file(written(tmp_path, b" \n")) == (None, "")


def test_only_a_file_of_its_own_counts(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("link", "symbolic link"), ("pipe", "not a regular file"), ("", "not a regular file")):
        text, error = read_result_file(str(tmp_path / name))
        assert text is None
        assert why in error


def test_the_file_counts_more_than_what_was_told_and_a_bad_one_leaves_it(tmp_path: Path) -> None:
    words = Words(NeedleSet([b"secretive", b"123456789012"]))
    words.take("1")
    assert "not JSON" in words.take_file(written(tmp_path, b"{"))
    assert words.result == "1"
    assert words.take_file(written(tmp_path, b'{"token": "secretive"}')) == ""
    assert words.result == '{"token":"***"}'
    assert words.take_file(written(tmp_path, b"123456789012")) == "the result contains a secret"
    assert words.take_file(None) == ""


def test_progress_never_goes_back_and_keeps_what_is_not_said() -> None:
    words = Words(NeedleSet([b"secretive"]))
    assert words.progress is None
    words.advance(0.4, "compiling", "of secretive", 10)
    assert words.progress is not None
    assert words.progress.text == "of ***"
    words.advance(0.3, "", "again", 9)
    assert (words.progress.fraction, words.progress.stage, words.progress.text) == (0.4, "compiling", "again")
    assert words.progress.at_ns == 11
    words.advance(None, "linking", "", 20)
    assert (words.progress.fraction, words.progress.stage, words.progress.at_ns) == (0.4, "linking", 20)


def test_it_is_relayed_at_once_and_then_a_few_times_a_second() -> None:
    words, period_ns = Words(NeedleSet()), int(RELAY_S * 1e9)
    assert words.untold(0) is None
    words.advance(0.1, "", "", 1)
    assert words.untold(5) == words.progress
    words.advance(0.2, "", "", 2)
    words.advance(0.3, "", "", 3)
    assert words.untold(4 + period_ns) is None
    assert words.waits
    newest = words.untold(5 + period_ns)
    assert newest is not None
    assert newest.fraction == 0.3
    assert words.untold(9 * period_ns) is None


def test_a_bad_result_makes_only_a_good_end_bad() -> None:
    well = Verdict(
        outcome=Outcome.ENDED_WELL,
        reason=Reason.EXIT_ZERO,
        message="",
        exit_code=0,
        signal=None,
        steps=(),
        stopped_by=None,
        stop_marks=(),
        survivors_killed=0,
        tree_empty=True,
        started_at_ns=1,
        ended_at_ns=2,
    )
    failed = failed_validation(well, "not JSON")
    assert (failed.outcome, failed.reason, failed.message) == (
        Outcome.ENDED_BADLY,
        Reason.VALIDATION_FAILED,
        "not JSON",
    )
    assert failed.exit_code == 0
    badly = replace(well, outcome=Outcome.ENDED_BADLY, reason=Reason.SIGNALLED, exit_code=None, signal=9)
    assert failed_validation(badly, "not JSON") == badly


@pytest.mark.parametrize("letter", ["é", "中", "\U0001f600", '"', "\\", "x"])
def test_the_largest_result_fits_into_what_is_set_aside_for_its_record(letter: str) -> None:
    words = Words(NeedleSet())
    size = len(json.dumps(letter, ensure_ascii=False).encode()) - 2
    words.take(json.dumps(letter * ((MAX_RESULT_BYTES - 2) // size), ensure_ascii=False))
    record = replace(never_executed("run", 1, 1), result_json=words.result)
    assert len(encode_record(record)) < files.RESERVE_BYTES - (128 << 10), "all else that a record says fits beside it"
