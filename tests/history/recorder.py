"""Write a history down while a test runs: every call, every fault; at the end truth, rows, logs and programs."""

from __future__ import annotations

import contextlib
import json
import pathlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import grpc
from banksman.v1 import run_pb2
from google.protobuf.json_format import MessageToDict

from tests.history import truthful
from tests.history.checker import check
from tests.history.lines import History
from tests.history.reading import LogReader
from tests.scenarios.doors import Doors
from tests.scenarios.house import House
from tests.scenarios.program import Program

TABLES = ("runs", "attempts", "run_events", "log_segments", "schedules", "firings", "request_ids", "runners")
MEMORY_LIMIT_BYTES = 400 << 20


class Recorder(grpc.UnaryUnaryClientInterceptor):
    """Appends lines to `path`; may be used by several threads. Runs write their truth to `place`.

    Give it to House.client: each call that goes through is a line, and each answer that says kill_confirmed is held
    against the locks at once.
    """

    def __init__(self, path: pathlib.Path, place: pathlib.Path, **about: Any) -> None:
        self.path = path
        self.place = place
        place.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        path.write_text("")
        self._proved: set[tuple[str, int]] = set()
        self._served: dict[tuple[str, int], dict[int, str]] = {}
        self.plans: dict[str, list[dict[str, Any]]] = {}
        self.put("about", wall=time.time(), mono=time.monotonic(), **about)

    def put(self, what: str, **fields: Any) -> None:
        """One line."""
        text = json.dumps({"what": what, **fields}, default=bytes.hex)
        with self._lock, self.path.open("a") as file:
            file.write(text + "\n")

    def fault(self, kind: str, **fields: Any) -> None:
        self.put("fault", kind=kind, mono=time.monotonic(), **fields)

    def excuse(self, run: str, of: str, why: str) -> None:
        self.put("excuse", run=run, of=of, why=why)

    def submitted(self, run: str, plans: Sequence[dict[str, Any]], **fields: Any) -> None:
        self.plans[run] = list(plans)
        self.put("submitted", run=run, plans=list(plans), **fields)

    def memory(self, program: Program) -> None:
        """The peak of a program that is about to be killed, or has done its part."""
        with contextlib.suppress(OSError, AssertionError):
            status = pathlib.Path(f"/proc/{program.pid}/status").read_text()
            peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
            self.put("memory", name=program.name, peak_bytes=int(peak.split()[1]) << 10, limit_bytes=MEMORY_LIMIT_BYTES)

    # -- calls

    def intercept_unary_unary(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        began = time.monotonic()
        call = continuation(client_call_details, request)
        code = call.code()
        method = client_call_details.method.rpartition("/")[2]
        asked = MessageToDict(request, preserving_proto_field_name=True) if method != "CreateRun" else {}
        if getattr(request, "request_id", ""):
            asked["request_id"] = request.request_id
        fields: dict[str, Any] = {"method": method, "request": asked, "code": code.name}
        answer = call.result() if code is grpc.StatusCode.OK else None
        if isinstance(answer, run_pb2.Run):
            fields |= {"run": answer.id, "answer": _shown(answer)}
        self.put("call", **fields, began=began, ended=time.monotonic())
        if isinstance(answer, run_pb2.Run):
            self.prove(answer)
        return call

    def prove(self, run: run_pb2.Run) -> None:
        """Whoever is said to be dead must hold no lock any more."""
        for attempt in run.attempts:
            key = (run.id, attempt.lease_epoch)
            if attempt.kill_confirmed and key not in self._proved:
                self._proved.add(key)
                self.put(
                    "proof",
                    run=run.id,
                    epoch=attempt.lease_epoch,
                    alive=truthful.alive(self.place, run.id, attempt.lease_epoch),
                    mono=time.monotonic(),
                )

    # -- logs

    def peek(self, doors: Doors, run: str, epoch: int) -> int:
        """Read what there is now, to see later whether it stays; returns how many bytes."""
        reader = LogReader(doors, run, epoch)
        if not reader.read():
            return 0
        self._served.setdefault((run, epoch), {})[reader.bytes] = reader.sha256()
        return reader.bytes

    def read_logs(self, doors: Doors, run: str) -> None:
        """All attempts of a run that were assigned, against the plans of its steps."""
        shown = doors.runs.GetRun(run_pb2.GetRunRequest(run=run))
        for attempt in shown.attempts:
            if attempt.state == run_pb2.ATTEMPT_STATE_REJECTED:
                continue
            reader = LogReader(doors, run, attempt.lease_epoch, self.plans.get(run, ()))
            served = self._served.get((run, attempt.lease_epoch), {})
            if not reader.read(marks=served):
                continue
            for line in reader.lines():
                self.put(line.pop("what"), **line)
            for size, digest in served.items():
                again = reader.marked.get(size, "")
                self.put("served", run=run, epoch=attempt.lease_epoch, bytes=size, sha256=digest, later=again)

    # -- the end

    def truth(self) -> list[dict[str, Any]]:
        """All lines that the runs wrote up to now."""
        path = self.place / "truth"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def close_books(self, house: House, secrets: Iterable[bytes] = ()) -> History:
        """Export everything, after the logs were read; kills the server. Returns the whole history."""
        for program in (house.server, *house.agents.values()):
            self.memory(program)
            by_itself = program.started and not program.running
            self.put("program", name=program.name, traceback=_traceback(program.output), ended_by_itself=by_itself)
        if house.server.running:
            house.server.kill_dash_nine()
        for line in self.truth():
            self.put("truth", **line)
        self._wrote()
        self.rows(house.server_directory / "banksman.db", check=True)
        for secret in secrets:
            for where in _holding(house.root, secret):
                self.put("secret", where=where)
        return History.load(self.path)

    def expect_whole(self, house: House, secrets: Iterable[bytes] = ()) -> History:
        """Close the books, and fail with every violation if there is any."""
        history = self.close_books(house, secrets)
        violations = check(history)
        text = "\n".join(map(str, violations[:50]))
        assert not violations, f"{text}\nlook closer: python -m tests.history show {self.path} RUN\n{house.said()}"
        return history

    def _wrote(self) -> None:
        for path in sorted(self.place.glob("*/*.wrote")):
            epoch, step, _ = path.name.split(".")
            counts = [int(count) for count in path.read_bytes().split()] or [0, 0]
            self.put("wrote", run=path.parent.name, epoch=int(epoch), step=int(step), out=counts[0], err=counts[1])

    def rows(self, database: pathlib.Path, *, check: bool = False) -> None:
        """The tables by plain SQL, as they are committed."""
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            for table in TABLES:
                for row in connection.execute(f"SELECT * FROM {table}"):
                    self.put("row", table=table, **dict(row))
            if check:
                found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
                found += [f"foreign key: {tuple(row)}" for row in connection.execute("PRAGMA foreign_key_check")]
                self.put("integrity", found=found)


def _shown(run: run_pb2.Run) -> Mapping[str, Any]:
    return {
        "state": run_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_"),
        "reason": run_pb2.Reason.Name(run.reason).removeprefix("REASON_") if run.reason else None,
        "exit_code": run.exit_code if run.HasField("exit_code") else None,
        "kill_confirmed": run.kill_confirmed,
        "settled": run.HasField("settled_at"),
    }


def _traceback(output: pathlib.Path) -> bool:
    return output.exists() and b"Traceback" in output.read_bytes()


def _holding(root: pathlib.Path, secret: bytes) -> list[str]:
    """Regular files below root that hold the bytes."""
    found = []
    for path in root.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and secret in path.read_bytes():
                found.append(str(path.relative_to(root)))
    return found
