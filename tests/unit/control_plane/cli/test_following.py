"""What a person sees of a run that is followed, and with which code that ends."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from typing import Any

import grpc
import pytest
from banksman.v1 import log_pb2, run_pb2
from google.protobuf import duration_pb2

from control_plane.cli.following import Ended, RunFollower, end_line, shell_line
from control_plane.cli.interrupts import Interrupts
from control_plane.cli.invocation import Invocation
from control_plane.cli.log_stream import Begin, Piece
from control_plane.cli.log_writer import LogWriter
from tests.unit.control_plane.cli.console import TOKEN
from tests.unit.control_plane.cli.logbook import STDERR, STDOUT, AttemptLog, Logbook, call, serving


def test_both_outputs_come_where_they_belong_and_the_last_line_says_how_it_ended() -> None:
    book = Logbook([AttemptLog(1, 1, [(STDOUT, b"out\x00\xff\n"), (STDERR, b"err\n"), (STDOUT, b"more\n")])])
    result = call(book, "run", "exec", "--", "true")
    assert result.exit_code == 0
    assert result.stdout_bytes == b"out\x00\xff\nmore\n"
    assert result.stderr_bytes.startswith(b"err\n")
    assert result.stderr.splitlines()[-1] == "banksman: SUCCEEDED: it ended. (run run-1)"


def test_a_follower_crosses_retries() -> None:
    book = Logbook(
        [AttemptLog(1, 1, [(STDOUT, b"one\n")]), AttemptLog(2, 2, [(STDOUT, b"two\n")])],
        drops=[2],
        state=run_pb2.RUN_STATE_FAILED,
    )
    result = call(book, "run", "exec", "--", "true")
    assert result.exit_code == 1
    assert result.stdout == "one\ntwo\n"
    assert "attempt 2 begins" in result.stderr


@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 10), ("FAILED", 1)])
def test_an_incomplete_log_is_no_success(state: str, code: int) -> None:
    book = Logbook(
        [AttemptLog(1, 1, [(STDOUT, b"x")])],
        complete=False,
        state=run_pb2.RunState.Value(f"RUN_STATE_{state}"),
    )
    result = call(book, "run", "exec", "--", "true")
    assert result.exit_code == code
    assert "incomplete" in result.stderr
    assert call(book, "run", "logs", "@last").exit_code == 10


def test_logs_are_bytes_in_a_pipe() -> None:
    data = bytes(range(256)) * 40
    result = call(Logbook([AttemptLog(1, 1, [(STDOUT, data)])]), "run", "logs", "@last")
    assert result.stdout_bytes == data
    assert result.exit_code == 0


def test_logs_with_times_begin_each_line_once() -> None:
    book = Logbook([AttemptLog(1, 1, [(STDOUT, b"one\ntw"), (STDOUT, b"o\n"), (STDOUT, b"three")])], batch_bytes=4)
    lines = call(book, "run", "logs", "@last", "--times").stdout.splitlines()
    assert [line.split(" ", 2)[1:] for line in lines] == [["stdout", "one"], ["stdout", "two"], ["stdout", "three"]]


def test_logs_as_records() -> None:
    book = Logbook([AttemptLog(5, 1, [(STDOUT, b"abc"), (STDERR, b"de")])])
    rows = [json.loads(line) for line in call(book, "run", "logs", "@last", "-o", "jsonl").stdout.splitlines()]
    assert [(row["lease_epoch"], row["offset"], row["kind"], row["data"]) for row in rows] == [
        (5, 0, "LOG_KIND_STDOUT", "YWJj"),
        (5, 3, "LOG_KIND_STDERR", "ZGU="),
    ]


def test_an_attempt_is_chosen_by_its_number() -> None:
    book = Logbook([AttemptLog(11, 1, [(STDOUT, b"one")]), AttemptLog(12, 2, [(STDOUT, b"two")])])
    assert call(book, "run", "logs", "@last", "--attempt", "1").stdout == "one"
    assert call(book, "run", "logs", "@last", "--attempt", "3").exit_code == 3


def test_piped_input_is_sent_and_has_a_limit() -> None:
    book = Logbook([AttemptLog(1, 1, [(STDOUT, b"x")])])
    call(book, "run", "exec", "--", "cat", given=b"a" * (1 << 20))
    assert len(book.requests[0].spec.steps[0].command.stdin) == 1 << 20
    call(book, "run", "exec", "--no-stdin", "--", "cat", given=b"abc")
    assert book.requests[2].spec.steps[0].command.stdin == b""
    too_much = call(book, "run", "exec", "--", "cat", given=b"a" * ((1 << 20) + 1))
    assert too_much.exit_code == 2
    assert "1 MiB" in too_much.stderr


def test_a_terminal_gets_the_log_made_safe() -> None:
    out = io.BytesIO()
    writer = LogWriter(stdout=out, stderr=out, stdout_terminal=True, stderr_terminal=True, say=lambda text: None)
    for number, data in enumerate((b"a\x1b", b"]0;title", b"\x07b\x1b[3", b"1mred")):
        writer.take(Piece(1, number, log_pb2.LogRecord(kind=STDOUT, data=data)))
    writer.finish()
    assert out.getvalue() == b"ab\x1b[31mred\x1b[0m"


def test_the_second_interrupt_is_obeyed_at_once() -> None:
    taken: list[int] = []
    interrupts = Interrupts(taken.append)
    interrupts.take(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        interrupts.take(signal.SIGINT)
    interrupts.reset()
    interrupts.take(signal.SIGTERM)
    assert taken == [signal.SIGINT, signal.SIGTERM]
    interrupts.reset(seen=1)
    with pytest.raises(KeyboardInterrupt):
        interrupts.take(signal.SIGINT)


def test_signals_are_given_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    interrupts = Interrupts(lambda number: None)
    with interrupts.installed():
        assert signal.getsignal(signal.SIGINT) == interrupts.take
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_the_end_line_has_state_reason_duration_and_id() -> None:
    run = run_pb2.Run(
        id="0199-1",
        state=run_pb2.RUN_STATE_FAILED,
        reason=run_pb2.REASON_EXIT_NONZERO,
        error_message="it exited with code 3.",
        duration=duration_pb2.Duration(seconds=192),
    )
    assert end_line(run) == "banksman: FAILED: it exited with code 3. (3m 12s, run 0199-1)"


class Restarted(Logbook):
    """Refuses the given calls of GetRun, counted from 1, as a control plane that is away for that long."""

    away: range = range(0)
    looked = 0
    asked: list[str]

    def GetRun(self, request: Any, context: grpc.ServicerContext) -> run_pb2.Run:
        self.looked += 1
        self.asked = [*getattr(self, "asked", []), request.run]
        if self.looked in self.away:
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        return self.run()


@pytest.mark.parametrize(
    ("argv", "reason", "meant"),
    [
        (["echo 'hi' && ls"], run_pb2.REASON_SPAWN_FAILED, """sh -c 'echo '"'"'hi'"'"' && ls\'"""),
        (["echo", "hi"], run_pb2.REASON_SPAWN_FAILED, ""),
        (["nothing"], run_pb2.REASON_SPAWN_FAILED, ""),
        (["/a program"], run_pb2.REASON_EXIT_NONZERO, ""),
    ],
)
def test_a_command_line_in_one_word_is_told_of_the_shell(argv: list[str], reason: run_pb2.Reason, meant: str) -> None:
    run = run_pb2.Run(reason=reason)
    run.spec.steps.add().command.argv.extend(argv)
    assert shell_line(run) == meant


def test_a_restart_between_two_attempts_does_not_end_a_follower() -> None:
    book = Restarted(
        [AttemptLog(1, 1, [(STDOUT, b"one\n")]), AttemptLog(2, 2, [(STDOUT, b"two\n")])], one_at_a_time=True
    )
    book.away = range(2, 9)
    result = call(book, "run", "exec", "--", "true")
    assert (result.exit_code, result.stdout) == (0, "one\ntwo\n")
    assert result.stderr.count("the connection was lost") == 1
    assert "cannot be followed" not in result.stderr


class Refusing(Logbook):
    """Is away for its first calls of CancelRun."""

    away = 9
    cancels = 0

    def CancelRun(self, request: Any, context: grpc.ServicerContext) -> run_pb2.Run:
        self.cancels += 1
        if self.cancels <= self.away:
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        return self.run()


def test_a_cancel_is_asked_for_until_the_control_plane_answers() -> None:
    book = Refusing([])
    with serving(book) as client:
        inv = Invocation(clock=client.clock)
        inv._client = client
        follower = RunFollower(inv, run_pb2.Run(id="run-1", is_active=True), wait_timeout_s=None)
        follower._interrupted(signal.SIGTERM)
        assert book.cancels < book.away
        while book.cancels <= book.away:
            client.clock.sleep(1.0)
            follower._feed.events.put(Begin(1, 1))
            follower._feed._ahead.acquire()
            follower._next()
        client.clock.sleep(60.0)
        follower._feed.events.put(Ended(book.run(), log_complete=True))
        assert follower._next() is not None
    assert book.cancels == book.away + 1


def test_a_reader_who_comes_back_gets_the_run_that_last_meant_at_first() -> None:
    book = Logbook([AttemptLog(1, 1, [(STDOUT, b"a" * 500)])], drops=[100, 100])
    assert call(book, "run", "logs", "@last", "-f").stdout == "a" * 500
    assert [request.run for request in book.requests] == ["run-1"] * 3


def written(*pieces: tuple[int, bytes], terminal: bool) -> tuple[bytes, bytes]:
    """What both outputs got, and a line of ours behind it on stderr."""
    out, err = io.BytesIO(), io.BytesIO()
    say = LogWriter(stdout=out, stderr=err, stdout_terminal=terminal, stderr_terminal=terminal, say=lambda text: None)
    for number, (kind, data) in enumerate(pieces):
        say.take(Piece(1, number, log_pb2.LogRecord(kind=kind, data=data)))
    say.finish()
    say.end_lines()
    err.write(b"banksman: ours\n")
    return out.getvalue(), err.getvalue()


def test_our_own_line_begins_at_the_left() -> None:
    assert written((STDOUT, b"prompt> "), terminal=True) == (b"prompt> ", b"\nbanksman: ours\n")
    assert written((STDOUT, b"done\n"), terminal=True) == (b"done\n", b"banksman: ours\n")
    assert written((STDOUT, b"1 2 3 "), (STDERR, b"err\n"), terminal=True)[1] == b"err\nbanksman: ours\n"
    assert written((STDERR, b"err"), (STDOUT, b"\n"), terminal=True)[1] == b"errbanksman: ours\n"
    assert written((STDERR, b"oops"), terminal=False) == (b"", b"oops\nbanksman: ours\n")
    assert written((STDOUT, b"a pipe's bytes"), terminal=False) == (b"a pipe's bytes", b"banksman: ours\n")


def test_a_reader_that_goes_away_is_no_error() -> None:
    book = Logbook([AttemptLog(1, 1, [(STDOUT, b"line\n" * 200_000)])], batch_bytes=50_000)
    with serving(book) as client:
        environ = os.environ | {"BANKSMAN_URL": client.target.url, "BANKSMAN_TOKEN": TOKEN}
        argv = [sys.executable, "-m", "control_plane.cli.main", "run", "logs", "@last"]
        process = subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
        process.stderr.close()
        assert process.wait(30) == 0
        assert said == b""
