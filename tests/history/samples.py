"""Hand-made histories: a good one of four runs and a schedule, to be changed by a test into a bad one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from tests.history.lines import History

Fields = dict[str, Any]
DIGEST = hashlib.sha256(b"x").hexdigest()


def plan(step: int = 0, code: int = 0) -> Fields:
    return {"name": "a", "step": step, "code": code}


def run(name: str, state: str, reason: str, epoch: int, **more: Any) -> Fields:
    fields = {
        "what": "row", "table": "runs", "id": name, "state": state, "reason": reason, "lease_epoch": epoch,
        "started_at": 110, "completed_at": 200, "settled_at": 210, "exit_code": 0, "kill_confirmed": 1,
        "cancel_requested_at": None, "schedule_id": None, "scheduled_time": None, "retry_of": None,
    }  # fmt: skip
    return {**fields, **more}


def attempt(name: str, epoch: int, state: str, reason: str = "EXIT_ZERO", **more: Any) -> Fields:
    fields = {
        "what": "row", "table": "attempts", "run_id": name, "lease_epoch": epoch, "state": state, "reason": reason,
        "assigned_at": 105, "kill_confirmed": 1, "stop": None, "gaps": "[]", "log_bytes": 100, "log_digest": DIGEST,
        "log_complete": 1, "log_sealed_at": 205, "log_deleted_at": None,
    }  # fmt: skip
    return {**fields, **more}


def events(name: str, first: int, *moves: tuple[str, int, str | None]) -> list[Fields]:
    return [
        {"what": "row", "table": "run_events", "run_id": name, "number": first + at, "type": kind, "at": 100 + at,
         "lease_epoch": epoch, "reason": reason}
        for at, (kind, epoch, reason) in enumerate(moves)
    ]  # fmt: skip


def truth(name: str, epoch: int, *said: tuple[str, int, float], **more: Any) -> list[Fields]:
    found = []
    for word, step, at in said:
        line = {"what": "truth", "word": word, "run": name, "epoch": epoch, "step": step, "pid": 7, "mono": at}
        written = {"out": [60, "o"], "err": [40, "e"]} if word == "stop" else {}
        found.append({**line, "boot": at, **written, **more})
    return found


def log(name: str, epoch: int, step: int = 0) -> list[Fields]:
    key = {"run": name, "epoch": epoch}
    streams = (("out", 60, "o"), ("err", 40, "e"))
    return [
        {"what": "log", **key, "step": step, "stream": stream, "bytes": size, "same": size, "sha256": sha}
        for stream, size, sha in streams
    ]


def whole(name: str, epoch: int) -> list[Fields]:
    key = {"run": name, "epoch": epoch}
    segment = {"number": 1, "first_offset": 0, "end_offset": 100}
    return [
        {"what": "log_whole", **key, "bytes": 100, "digest": DIGEST, "gaps": [], "contiguous": True},
        {"what": "row", "table": "log_segments", "run_id": name, "lease_epoch": epoch, **segment},
    ]


def call(method: str, name: str, state: str, reason: str | None, code: str = "OK", **request: Any) -> Fields:
    answer = {"run": name, "answer": {"state": state, "reason": reason}} if code == "OK" else {}
    return {"what": "call", "method": method, "request": request, "code": code, "began": 1.0, "ended": 1.1, **answer}


def proof(name: str, epoch: int, at: float, *alive: str) -> Fields:
    return {"what": "proof", "run": name, "epoch": epoch, "mono": at, "alive": list(alive)}


def good() -> list[Fields]:
    """ "well" succeeds in two steps; "again" is tried twice; "stopped" is cancelled; "timed" comes from a schedule."""
    return [
        {"what": "about", "wall": 0.0, "mono": 0.0},
        *_well(), *_again(), *_stopped(), *_timed(),
        {"what": "integrity", "found": ["ok"]},
        {"what": "program", "name": "server", "traceback": False, "ended_by_itself": False},
        {"what": "memory", "name": "server", "peak_bytes": 90 << 20, "limit_bytes": 400 << 20},
    ]  # fmt: skip


def _well() -> list[Fields]:
    moves = [("CREATED", 0, None), ("OFFERED", 1, None), ("ACCEPTED", 1, None), ("STARTED", 1, None)]
    moves += [("SUCCEEDED", 1, "EXIT_ZERO"), ("SETTLED", 1, None)]
    said = (("start", 0, 1.0), ("beat", 0, 1.5), ("stop", 0, 2.0), ("start", 1, 2.1), ("stop", 1, 3.0))
    request = {"what": "row", "table": "request_ids", "method": "CreateRun", "request_id": "q", "resource_id": "well"}
    return [
        call("CreateRun", "well", "QUEUED", None, request_id="q"),
        call("CreateRun", "well", "RUNNING", None, request_id="q"),
        {"what": "submitted", "run": "well", "plans": [plan(0), plan(1)], "max_attempts": 1, "request_id": "q"},
        *truth("well", 1, *said),
        {"what": "wrote", "run": "well", "epoch": 1, "step": 0, "out": 60, "err": 40},
        call("WaitRun", "well", "SUCCEEDED", "EXIT_ZERO"), proof("well", 1, 3.5),
        *log("well", 1), *log("well", 1, 1), *whole("well", 1),
        {"what": "served", "run": "well", "epoch": 1, "bytes": 50, "sha256": "s", "later": "s"},
        run("well", "SUCCEEDED", "EXIT_ZERO", 1), attempt("well", 1, "SUCCEEDED"), request,
        *events("well", 10, *moves),
    ]  # fmt: skip


def _again() -> list[Fields]:
    moves = [("CREATED", 0, None), ("OFFERED", 2, None), ("RETURNED", 2, "OFFER_EXPIRED"), ("OFFERED", 3, None)]
    moves += [("ACCEPTED", 3, None), ("STARTED", 3, None), ("WILL_RETRY", 3, "EXIT_NONZERO"), ("OFFERED", 4, None)]
    moves += [("ACCEPTED", 4, None), ("STARTED", 4, None), ("FAILED", 4, "EXIT_NONZERO"), ("EVIDENCE_ADDED", 3, None)]
    return [
        {"what": "submitted", "run": "again", "plans": [plan(code=3)], "max_attempts": 2},
        *truth("again", 3, ("start", 0, 1.0), ("stop", 0, 2.0)),
        *truth("again", 4, ("start", 0, 4.0), ("stop", 0, 5.0)),
        *log("again", 3), *whole("again", 3), *log("again", 4), *whole("again", 4),
        run("again", "FAILED", "EXIT_NONZERO", 4, exit_code=3),
        attempt("again", 2, "REJECTED", assigned_at=None, kill_confirmed=0),
        attempt("again", 3, "FAILED"), attempt("again", 4, "FAILED"),
        *events("again", 30, *moves),
    ]  # fmt: skip


def _stopped() -> list[Fields]:
    moves = [("CREATED", 0, None), ("OFFERED", 5, None), ("ACCEPTED", 5, None), ("STARTED", 5, None)]
    moves += [
        ("STOP_REQUESTED", 5, "USER_CANCEL"),
        ("STOP_PROGRESSED", 5, "USER_CANCEL"),
        ("CANCELLED", 5, "USER_CANCEL"),
    ]
    return [
        {"what": "submitted", "run": "stopped", "plans": [plan()], "max_attempts": 1},
        *truth("stopped", 5, ("start", 0, 1.0), ("signal", 0, 2.0)),
        {"what": "wrote", "run": "stopped", "epoch": 5, "step": 0, "out": 50, "err": 40},
        call("CancelRun", "stopped", "CANCELLING", None), proof("stopped", 5, 2.5),
        *log("stopped", 5), *whole("stopped", 5),
        run("stopped", "CANCELLED", "USER_CANCEL", 5, cancel_requested_at=150),
        attempt("stopped", 5, "CANCELLED", "USER_CANCEL", stop="{}"),
        *events("stopped", 50, *moves),
    ]  # fmt: skip


def _timed() -> list[Fields]:
    period = 2_000_000
    schedule = {"table": "schedules", "id": "s", "every_s": 2.0, "paused": 0, "created_at": 0, "updated_at": 0}
    key = {"what": "row", "table": "firings", "schedule_id": "s", "origin": "SCHEDULE"}
    moves = [("CREATED", 0, None), ("SKIPPED", 0, "OVERLAP"), ("SETTLED", 0, None)]
    timed = {"schedule_id": "s", "scheduled_time": 4 * period, "started_at": None, "kill_confirmed": 0}
    return [
        {"what": "row", **schedule},
        {**key, "scheduled_time": period, "run_id": None, "missed": 3},
        {**key, "scheduled_time": 4 * period, "run_id": "timed", "missed": 0},
        {"what": "excuse", "run": "timed", "of": "end", "why": "its schedule may skip it"},
        run("timed", "SKIPPED", "OVERLAP", 0, **timed), *events("timed", 70, *moves),
    ]  # fmt: skip


def changed(change: Callable[[Fields], Fields | list[Fields] | None]) -> History:
    """The good history with each line as `change` gives it back: changed in a copy, several, or left out (None)."""
    lines: list[Fields] = []
    for line in good():
        now = change(line)
        lines += now if isinstance(now, list) else [] if now is None else [now]
    return History(lines)
