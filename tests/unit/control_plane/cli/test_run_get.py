"""What `run get` and `run watch` tell of a run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from banksman.v1 import access_pb2, log_pb2, run_pb2
from google.protobuf import duration_pb2, timestamp_pb2

from tests.unit.control_plane.cli.console import banksman
from tests.unit.control_plane.cli.logbook import Logbook, call
from tests.unit.fake_channel import Refusal

ID = "0199aaaa-bbbb-7ccc-8ddd-eeee12345678"


def at(second: int) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=1767355200 + second)


def timed_out() -> run_pb2.Run:
    run = run_pb2.Run(
        id=ID,
        project_id="p",
        state=run_pb2.RUN_STATE_TIMED_OUT,
        reason=run_pb2.REASON_RUN_TIMEOUT,
        error_message="it ran longer than 60 s",
        kill_confirmed=True,
    )
    run.attempts.add(lease_epoch=3, state=run_pb2.ATTEMPT_STATE_REJECTED)
    attempt = run.attempts.add(
        lease_epoch=2,
        number=2,
        runner_name="host",
        state=run_pb2.ATTEMPT_STATE_TIMED_OUT,
        signal=9,
        started_at=at(0),
        ended_at=at(70),
        kill_confirmed=True,
        end_proof=run_pb2.END_PROOF_CONFIRMED,
        log_counted=True,
        log_bytes=7,
    )
    attempt.stop.CopyFrom(
        run_pb2.StopRecord(
            reason=run_pb2.REASON_RUN_TIMEOUT,
            phase=run_pb2.STOP_PHASE_KILLED,
            requested_at=at(60),
            signalled_at=at(55),
            signalled_heard_at=at(61),
            killed_at=at(65),
            survivors=2,
            signal="SIGTERM",
            grace=duration_pb2.Duration(seconds=10),
        )
    )
    attempt.gaps.add(from_offset=10, to_offset=20)
    run.attempts.add(lease_epoch=1, number=1, state=run_pb2.ATTEMPT_STATE_FAILED, started_at=at(-9), ended_at=at(-8))
    return run


LOG = [
    log_pb2.ReadLogsResponse(
        batch=log_pb2.LogBatch(
            lease_epoch=2,
            offset=50,
            next_offset=62,
            records=[
                log_pb2.LogRecord(kind=log_pb2.LOG_KIND_STDOUT, data=b"last out\n"),
                log_pb2.LogRecord(kind=log_pb2.LOG_KIND_STDERR, data=b"er\n"),
            ],
        )
    ),
    log_pb2.ReadLogsResponse(end=log_pb2.LogEnd(lease_epoch=2, complete=True)),
]


def test_a_bad_end_is_explained_with_attempts_stop_and_log() -> None:
    outcome = banksman("run", "get", "@last", script=[("GetRun", timed_out()), ("ReadLogs", LOG)])
    assert outcome.exit_code == 0
    shown = outcome.stdout
    assert "why\tit ran longer than 60 s" in shown
    signalled, killed = "signalled 12:01:01.000Z [host 12:00:55.000Z]", "killed [host 12:01:05.000Z]"
    assert f"stop phases\trequested 12:01:00.000Z, {signalled}, {killed}\n" in shown
    assert "stop phase\tKILLED\n" in shown
    assert "stop signal\tSIGTERM, killed after 10s" in shown
    assert "kill confirmed\tyes" in shown
    assert "survivors killed\t2" in shown
    assert "log gap\tbytes 10 to 20" in shown
    assert shown.index("attempt\t1") < shown.index("attempt\t2")
    assert "rejected offers\t1" in shown
    assert shown.endswith("last 50 log lines:\nlast out\ner\n")
    tail = outcome.calls[1].request
    assert (tail.run, tail.tail_lines, tail.follow) == (ID, 50, False)


def ended(**fields: Any) -> run_pb2.Run:
    run = run_pb2.Run(id=ID, project_id="p", state=run_pb2.RUN_STATE_SUCCEEDED, kill_confirmed=True, **fields)
    run.attempts.add(
        lease_epoch=1, number=1, runner_name="host", state=run_pb2.ATTEMPT_STATE_SUCCEEDED, exit_code=0,
        started_at=at(0), ended_at=at(1), kill_confirmed=True, log_complete=True,
    )  # fmt: skip
    return run


def test_a_good_end_is_told_once_and_without_talk_of_kills() -> None:
    shown = banksman("run", "get", "@last", script=[("GetRun", ended(exit_code=0))]).stdout
    assert "kill" not in shown
    assert "processes left\tnone\n" in shown
    assert shown.count("SUCCEEDED") == 1
    assert shown.count("exit\t0") == 1


def test_what_is_only_presumed_dead_is_called_so() -> None:
    lost = run_pb2.Run(id=ID, project_id="p", state=run_pb2.RUN_STATE_LOST, reason=run_pb2.REASON_RUNNER_LOST)
    attempt = lost.attempts.add(
        lease_epoch=1, number=1, state=run_pb2.ATTEMPT_STATE_LOST, started_at=at(0), ended_at=at(9)
    )
    for proof, told in (
        (run_pb2.END_PROOF_PRESUMED_DEAD, "no: presumed dead"),
        (run_pb2.END_PROOF_NOT_PROVEN, "no: not proven"),
        (run_pb2.END_PROOF_CONFIRMED, "yes: the kernel said"),
        (run_pb2.END_PROOF_UNSPECIFIED, "no\n"),
    ):
        attempt.end_proof = proof
        outcome = banksman("run", "get", "@last", "--log-lines", "0", script=[("GetRun", lost)])
        assert f"kill confirmed\t{told}" in outcome.stdout
    assert "log gap\tbehind byte 0 an unknown number of bytes is missing" in outcome.stdout


def test_a_command_is_shown_as_a_shell_would_read_it() -> None:
    run = ended()
    run.spec.steps.add().command.argv.extend(["sh", "-c", "echo 'a b'; exit"])
    shown = banksman("run", "get", "@last", script=[("GetRun", run)]).stdout
    command = next(line for line in shown.splitlines() if line.startswith("command\t")).split("\t")[1]
    assert shlex.split(command) == ["sh", "-c", "echo 'a b'; exit"]


ME = access_pb2.Principal(id="me", name="ada", admin=True)
OTHERS = access_pb2.ListPrincipalsResponse(principals=[ME, access_pb2.Principal(id="ci-id", name="ci")])


@pytest.mark.parametrize(
    ("maker", "script", "shown"),
    [
        ("me", [("WhoAmI", ME)], "ada"),
        ("ci-id", [("WhoAmI", ME), ("ListPrincipals", OTHERS)], "ci"),
        ("gone", [("WhoAmI", ME), ("ListPrincipals", OTHERS)], "gone"),
        ("ci-id", [("WhoAmI", access_pb2.Principal(id="me", name="bob"))], "ci-id"),
        ("me", [("WhoAmI", Refusal(grpc.StatusCode.UNIMPLEMENTED))], "me"),
    ],
)
def test_the_maker_is_shown_by_name(maker: str, script: list[tuple[str, Any]], shown: str) -> None:
    outcome = banksman("run", "get", "@last", script=[("GetRun", ended(created_by=maker)), *script])
    assert f"created by\t{shown}\n" in outcome.stdout


def test_other_forms_keep_the_makers_id() -> None:
    outcome = banksman("run", "get", "@last", "-o", "json", script=[("GetRun", ended(created_by="me"))])
    assert json.loads(outcome.stdout)["created_by"] == "me"


def test_json_is_the_run_alone() -> None:
    outcome = banksman("run", "get", "@last", "-o", "json", script=[("GetRun", timed_out())])
    data = json.loads(outcome.stdout)
    assert data["reason"] == "REASON_RUN_TIMEOUT"
    assert data["attempts"][1]["kill_confirmed"] is True


def test_a_log_that_has_expired_does_not_spoil_the_rest() -> None:
    expired = Refusal(grpc.StatusCode.OUT_OF_RANGE, "the log was deleted")
    outcome = banksman("run", "get", "@last", script=[("GetRun", timed_out()), ("ReadLogs", expired)])
    assert outcome.exit_code == 0
    assert "the log was deleted" in outcome.stderr


def test_a_queued_run_says_why_it_waits() -> None:
    queued = run_pb2.Run(id=ID, state=run_pb2.RUN_STATE_QUEUED, is_active=True, waiting_because="no runner has gpu")
    assert "why\tno runner has gpu" in banksman("run", "get", "@last", script=[("GetRun", queued)]).stdout


def test_a_silent_runner_is_told_with_the_way_out() -> None:
    silent = run_pb2.Run(id=ID, state=run_pb2.RUN_STATE_RUNNING, is_active=True)
    attempt = silent.attempts.add(
        lease_epoch=1,
        number=1,
        state=run_pb2.ATTEMPT_STATE_RUNNING,
        connectivity=run_pb2.CONNECTIVITY_DISCONNECTED,
        disconnected_since=at(0),
    )
    silent.remedies.add(command="banksman runner mark-lost b-1", effect="Every run is LOST.")
    shown = banksman("run", "get", "@last", script=[("GetRun", silent)]).stdout
    assert "host\tdisconnected\nhost silent since\t2026-01-02T12:00:00.000Z\n" in shown
    assert "given up\tnever by itself" in shown
    assert shown.endswith("host:\n  banksman runner mark-lost b-1\n      Every run is LOST.\n")
    attempt.given_up_at.CopyFrom(at(60))
    attempt.connectivity = run_pb2.CONNECTIVITY_HOLDER_AWAY
    shown = banksman("run", "get", "@last", script=[("GetRun", silent)]).stdout
    assert "host\taway: its runner is connected from another state directory\n" in shown
    assert "given up\t2026-01-02T12:01:00.000Z\n" in shown


RUNNING = run_pb2.Run(id=ID, project_id="p", state=run_pb2.RUN_STATE_RUNNING, is_active=True)
DONE = run_pb2.Run(id=ID, project_id="p", state=run_pb2.RUN_STATE_FAILED)


def change(run: run_pb2.Run, token: str, kind: int = 0, second: int = 0) -> run_pb2.WatchRunsResponse:
    event = run_pb2.RunEvent(type=kind, at=at(second)) if kind else None  # type: ignore[arg-type]
    return run_pb2.WatchRunsResponse(run=run, resume_token=token, event=event)


class Watched(Logbook):
    """Each stream says its changes and ends with its status."""

    def __init__(self, *streams: tuple[list[run_pb2.WatchRunsResponse], grpc.StatusCode | None]) -> None:
        super().__init__([], state=run_pb2.RUN_STATE_RUNNING)
        self.streams = list(streams)

    def WatchRuns(self, request: Any, context: grpc.ServicerContext) -> Iterator[run_pb2.WatchRunsResponse]:
        self.requests.append(request)
        changes, status = self.streams.pop(0)
        yield from changes
        if status is not None:
            context.abort(status, "gone")


def test_a_watch_ends_with_its_run_and_goes_on_behind_what_it_saw() -> None:
    book = Watched(
        ([change(RUNNING, "a")], grpc.StatusCode.UNAVAILABLE),
        ([], grpc.StatusCode.UNAVAILABLE),
        ([change(DONE, "b", run_pb2.RUN_EVENT_TYPE_FAILED, 5)], None),
    )
    outcome = call(book, "run", "watch", "@last")
    assert outcome.exit_code == 1
    assert [request.resume_token for request in book.requests] == ["", "a", "a"]
    assert book.requests[0].run == "run-1"
    assert outcome.stdout.splitlines()[1].split("\t")[:4] == ["2026-01-02T12:00:05.000Z", ID, "FAILED", "failed"]
    assert outcome.stderr.count("connection was lost") == 1


def test_an_expired_watch_begins_anew() -> None:
    book = Watched(
        ([change(RUNNING, "a")], grpc.StatusCode.UNAVAILABLE),
        ([], grpc.StatusCode.OUT_OF_RANGE),
        ([change(DONE, "b")], None),
    )
    outcome = call(book, "run", "watch", "@last", "-o", "jsonl")
    assert [request.resume_token for request in book.requests] == ["", "a", ""]
    assert [json.loads(line)["run"]["state"] for line in outcome.stdout.splitlines()] == [
        "RUN_STATE_RUNNING",
        "RUN_STATE_FAILED",
    ]
    assert "changes were missed" in outcome.stderr


@pytest.mark.parametrize("code", [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND])
def test_a_watch_that_is_refused_ends(code: grpc.StatusCode) -> None:
    outcome = banksman("run", "watch", "--task", "build", script=[("WatchRuns", Refusal(code))])
    assert outcome.exit_code in (3, 4)
    assert outcome.calls[0].request.task == "build"
