"""A history in which everything holds passes; each invariant refuses what breaks it."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.history.__main__ import main
from tests.history.checker import INVARIANTS, check, tally
from tests.history.lines import History
from tests.history.samples import Fields, attempt, call, changed, events, good, proof, run, truth

Change = Callable[[Fields], Fields | list[Fields] | None]


def _is(line: Fields, **wanted: Any) -> bool:
    return all(line.get(name) == value for name, value in wanted.items())


def setting(values: Fields, **where: Any) -> Change:
    """Give these lines these values."""
    return lambda line: {**line, **values} if _is(line, **where) else line


def leaving_out(**where: Any) -> Change:
    return lambda line: None if _is(line, **where) else line


def adding(*more: Fields) -> Change:
    """These lines at the end of the good history."""
    return lambda line: [line, *more] if _is(line, what="memory") else line


def row(table: str, **more: Any) -> Fields:
    return {"what": "row", "table": table, **more}


SCHEDULED = {"what": "row", "table": "firings", "schedule_id": "s", "origin": "SCHEDULE", "missed": 0}
STATES = dict(row("runs", id="well"))
# What is wrong, of which invariant, and the change that makes it so.
BAD: list[tuple[str, int, Change]] = [
    ("an epoch goes back", 1, setting({"lease_epoch": 2}, table="run_events", number=37)),
    ("a state write under an old fence", 1, setting({"lease_epoch": 3}, table="run_events", number=40)),
    ("two live attempts", 1, setting({"state": "RUNNING"}, table="attempts", run_id="again")),
    ("a live attempt below the fence", 1, setting({"state": "RUNNING"}, table="attempts", lease_epoch=3)),
    ("an attempt above the fence", 1, setting({"lease_epoch": 0}, **STATES)),
    ("a process that nobody assigned", 1, adding(*truth("well", 9, ("start", 0, 9.0)))),
    ("a process of a rejected offer", 1, adding(*truth("again", 2, ("start", 0, 0.1), ("stop", 0, 0.2)))),
    ("a step runs twice", 2, adding(*truth("well", 1, ("start", 1, 2.5)))),
    ("a process saw another attempt's", 2, adding(*truth("again", 4, ("overlap", 0, 4.0), others=["3.0.main.1.lock"]))),
    ("an old attempt's late sign of life", 2, adding(*truth("again", 3, ("beat", 0, 4.5)))),
    ("no terminal event", 3, leaving_out(table="run_events", number=14)),
    ("two terminal events", 3, adding(*events("well", 19, ("FAILED", 1, "EXIT_NONZERO")))),
    ("a terminal run without a reason", 3, setting({"reason": None}, **STATES)),
    ("a terminal state was overwritten", 3, setting({"state": "FAILED"}, **STATES)),
    ("another terminal state was shown", 3, adding(call("GetRun", "well", "LOST", "RUNNER_LOST"))),
    ("another reason was shown", 3, adding(call("GetRun", "stopped", "CANCELLED", "FORCED"))),
    ("a move after the end", 3, adding(*events("well", 19, ("WILL_RETRY", 1, None)))),
    ("never completed", 3, setting({"completed_at": None}, **STATES)),
    ("completed before it started", 3, setting({"completed_at": 100}, **STATES)),
    ("an acked cancel that is not stored", 4, adding(call("CancelRun", "well", "CANCELLING", None))),
    ("a cancelled run that succeeded", 4, setting({"state": "SUCCEEDED"}, table="runs", id="stopped")),
    ("offered after its cancel", 4, setting({"type": "OFFERED"}, table="run_events", number=55)),
    ("queued after its cancel", 4, setting({"type": "WILL_RETRY"}, table="run_events", number=55)),
    ("kill_confirmed while it lives", 4, adding(proof("well", 1, 3.5, "1.0.tail.9.lock"))),
    ("a sign of life after kill_confirmed", 4, adding(*truth("stopped", 5, ("beat", 0, 2.7)))),
    ("a run is proven, an attempt is not", 4, setting({"kill_confirmed": 0}, table="attempts", lease_epoch=3)),
    ("bytes are lost at the end", 5, setting({"bytes": 59, "same": 59}, what="log", run="well", stream="out")),
    ("a killed program's bytes are lost", 5, setting({"bytes": 9, "same": 9}, what="log", run="stopped", stream="out")),
    ("bytes are repeated", 5, setting({"bytes": 70}, what="log", run="well", stream="out")),
    ("bytes are others", 5, setting({"same": 10}, what="log", run="well", stream="err")),
    ("as many bytes, but others", 5, setting({"sha256": "?"}, what="log", run="well", stream="err")),
    ("a stream is not there", 5, leaving_out(what="log", run="well", step=1, stream="out")),
    ("offsets with a hole", 5, setting({"contiguous": False}, what="log_whole", run="well")),
    ("another length than was sealed", 5, setting({"log_bytes": 99}, table="attempts", run_id="well")),
    ("another digest than was sealed", 5, setting({"digest": "?"}, what="log_whole", run="well")),
    ("sealed incomplete", 5, setting({"log_complete": 0}, table="attempts", run_id="well")),
    ("settled, not sealed", 5, setting({"log_sealed_at": None}, table="attempts", run_id="well")),
    ("segments with a hole", 5, setting({"first_offset": 7}, table="log_segments", run_id="well")),
    ("segments that end early", 5, setting({"end_offset": 90}, table="log_segments", run_id="well")),
    ("served bytes changed", 5, setting({"later": "t"}, what="served")),
    ("settled before its end", 5, setting({"type": "SETTLED"}, table="run_events", number=12)),
    ("a step is left out", 6, leaving_out(what="truth", run="well", step=0)),
    ("a step begins too early", 6, leaving_out(what="truth", run="well", step=0, word="stop")),
    ("a signal that nobody ordered", 6, setting({"word": "signal"}, what="truth", run="well", word="beat")),
    ("a broken pipe", 6, setting({"word": "broken"}, what="truth", run="well", word="beat")),
    ("another exit code", 6, setting({"exit_code": 1}, table="runs", id="again")),
    ("failed, though it went well", 6, setting({"state": "FAILED"}, **STATES)),
    ("succeeded without its last step", 6, leaving_out(what="truth", run="well", step=1)),
    ("lost for no reason", 6, setting({"state": "LOST"}, **STATES)),
    ("timed out, though nothing asked", 6, setting({"state": "TIMED_OUT"}, **STATES)),
    ("tried too often", 6, setting({"max_attempts": 1}, what="submitted", run="again")),
    ("an instant fired twice", 7, adding({**SCHEDULED, "scheduled_time": 8_000_000, "run_id": "well"})),
    ("two firings of one run", 7, adding({**SCHEDULED, "scheduled_time": 10_000_000, "run_id": "timed"})),
    ("a firing's run is gone", 7, setting({"run_id": "gone"}, table="firings", run_id="timed")),
    ("a schedule's run without a firing", 7, adding(run("odd", "SKIPPED", "OVERLAP", 0, schedule_id="s"))),
    ("an instant was left out", 7, setting({"missed": 2}, table="firings", run_id=None)),
    ("a firing of nothing", 7, setting({"missed": 0}, table="firings", run_id=None)),
    ("a run of another instant", 7, setting({"scheduled_time": 5}, table="runs", id="timed")),
    ("one request id, two runs", 8, adding(call("CreateRun", "again", "QUEUED", None, request_id="q"))),
    ("a request id is forgotten", 8, leaving_out(table="request_ids")),
    ("a request id is another run's", 8, setting({"resource_id": "again"}, table="request_ids")),
    ("one request, submitted twice", 8, setting({"request_id": "q"}, what="submitted", run="again")),
    ("a damaged database", 9, setting({"found": ["row 3 missing from index"]}, what="integrity")),
    ("an answered run is gone", 9, adding(call("CreateRun", "gone", "QUEUED", None))),
    ("a submitted run is gone", 9, adding({"what": "submitted", "run": "gone", "plans": []})),
    ("a run never ends", 9, adding(run("odd", "RUNNING", None, 0))),
    ("a run never settles", 9, setting({"settled_at": None}, **STATES)),
    ("a program ended by itself", 9, setting({"ended_by_itself": True}, what="program")),
    ("a traceback", 9, setting({"traceback": True}, what="program")),
    ("too much memory", 10, setting({"peak_bytes": 500 << 20}, what="memory")),
    ("a secret in clear", 11, adding({"what": "secret", "where": "server.out"})),
]  # fmt: skip


def test_a_good_history_passes() -> None:
    assert check(History(good())) == []


def test_there_is_a_bad_history_for_every_invariant() -> None:
    assert {number for _, number, _ in BAD} == set(INVARIANTS)


@pytest.mark.parametrize(("number", "change"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_a_bad_history_is_refused(number: int, change: Change) -> None:
    violations = list(INVARIANTS[number](changed(change)))
    assert violations
    assert {violation.invariant for violation in violations} == {number}
    assert all(violation.lines for violation in violations)


def test_a_shim_that_was_killed_excuses_lost_bytes_and_the_end_but_never_wrong_bytes() -> None:
    killed = {"what": "fault", "kind": "shim", "run": "well", "mono": 1.6}

    def dead(line: Fields) -> Fields | list[Fields] | None:
        if _is(line, what="submitted", run="well"):
            return [killed, line]
        if _is(line, what="log", run="well", step=0, stream="out"):
            return {**line, "bytes": 10, "same": 10, "sha256": "?"}
        return {**line, "log_complete": 0} if _is(line, table="attempts", run_id="well") else line

    assert not list(INVARIANTS[5](changed(dead)))
    assert list(INVARIANTS[5](changed(setting({"same": 3}, what="log", run="well"))))


def test_a_gap_record_covers_what_is_missing() -> None:
    def quota(line: Fields) -> Fields:
        if _is(line, table="attempts", run_id="stopped"):
            return {**line, "gaps": json.dumps([{"from_offset": 20, "to_offset": 60}])}
        if _is(line, what="log", run="stopped", stream="out"):
            return {**line, "bytes": 10, "same": 7, "sha256": "?"}
        return line

    assert not list(INVARIANTS[5](changed(quota)))


def test_a_tally_counts_what_is_lost_repeated_or_falsely_confirmed() -> None:
    assert tally(History(good())).bytes_wrong == 0
    assert tally(changed(setting({"bytes": 59, "same": 59}, what="log", run="again", stream="out"))).bytes_wrong == 2
    assert tally(changed(setting({"bytes": 61}, what="log", run="again", stream="out"))).bytes_wrong == 2
    told = tally(changed(adding(proof("well", 1, 3.5, "1.0.tail.9.lock"), *truth("again", 3, ("beat", 0, 4.5)))))
    assert (told.false_confirmed, told.overlaps, told.cancels, told.runs) == (1, 1, 1, 4)
    assert (told.firings, told.request_ids, told.read_while_running) == (2, 1, 1)


def test_a_saved_history_is_checked_again_and_shown(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "history.jsonl"
    saved.write_text("".join(json.dumps(line) + "\n" for line in good()))
    monkeypatch.setattr("sys.argv", ["history", "check", str(saved)])
    assert main() == 0
    saved.write_text(saved.read_text().replace('"EXIT_ZERO", "lease_epoch": 1', '"EXIT_NONZERO", "lease_epoch": 1', 1))
    assert main() == 1
    assert "[3] run well" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["history", "show", str(saved), "stopped"])
    assert main() == 0
    told = capsys.readouterr().out
    assert "word=signal" in told
    assert "well" not in told


def test_a_good_history_has_an_attempt_that_was_never_assigned() -> None:
    """What excuses it from having a log."""
    assert attempt("again", 2, "REJECTED", assigned_at=None, kill_confirmed=0) in good()
