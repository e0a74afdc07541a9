"""Follow a run to its end: its output as it comes, why it waits, how it ended, and what Ctrl-C means."""

from __future__ import annotations

import queue
import shlex
import signal
import sys
import threading
from dataclasses import dataclass

import click

from control_plane.cli import contract
from control_plane.cli.errors import CliError
from control_plane.cli.exits import ExitCode, of_run
from control_plane.cli.interrupts import Interrupts
from control_plane.cli.invocation import Invocation, discard_closed_outputs, stderr_bytes, stdout_bytes
from control_plane.cli.log_stream import Begin, Item, LogQuery, LogStream
from control_plane.cli.log_writer import LogWriter
from control_plane.cli.output import span
from control_plane.cli.plain import plain
from control_plane.cli.waiting import wait_for_run
from control_plane.cli.words import enum_word, reason_sentence, short_id, state_word

TICK_S = 1.0
CANCEL_AGAIN_S = 5.0
# Pieces that the reader may be ahead of a slow output.
AHEAD = 64


@dataclass(frozen=True, slots=True)
class Ended:
    """The run is terminal and its log was read."""

    run: contract.run_pb2.Run
    log_complete: bool


@dataclass(frozen=True, slots=True)
class Failed:
    error: Exception


@dataclass(frozen=True, slots=True)
class Interrupted:
    signal_number: int


Event = Item | Ended | Failed | Interrupted


class Feed:
    """A thread that reads the log, then waits for the end; its events are taken by the main thread."""

    def __init__(self, inv: Invocation, run: contract.run_pb2.Run) -> None:
        self._inv = inv
        self._run = run
        # SimpleQueue, because a signal handler may put into it at any moment. The semaphore bounds it.
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._ahead = threading.BoundedSemaphore(AHEAD)
        self._closed = threading.Event()
        query = LogQuery(run=run.id, project=run.project_id, follow=True, every_attempt=True)
        self.log = LogStream(inv.client, query, inv.say)
        self._thread = threading.Thread(target=self._read, name="banksman-log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def taken(self) -> None:
        """The main thread has written an item."""
        self._ahead.release()

    def close(self) -> None:
        self._closed.set()
        self.log.close()

    def _read(self) -> None:
        try:
            for item in self.log:
                self._ahead.acquire()
                self.events.put(item)
            if not self._closed.is_set():
                run = wait_for_run(
                    self._inv.client, self._run.id, self._run.project_id, patient=True, stopped=self._closed.is_set
                )
                end = self.log.end
                self.events.put(Ended(run, end is None or end.complete))
        except Exception as error:  # noqa: BLE001 - carried to the main thread, which raises it
            self.events.put(Failed(error))


class RunFollower:
    """Shows one run on this program's outputs until it ended, somebody detaches, or the wait is over."""

    def __init__(self, inv: Invocation, run: contract.run_pb2.Run, *, wait_timeout_s: float | None) -> None:
        self._inv = inv
        self._run = run
        self._end = None if wait_timeout_s is None else inv.clock.monotonic_s() + wait_timeout_s
        self._feed = Feed(inv, run)
        self._interrupts = Interrupts(lambda number: self._feed.events.put(Interrupted(number)))
        self._waiting_because = ""
        self._begun = False
        self._cancel_at_s: float | None = None
        self._writer = LogWriter(
            stdout=stdout_bytes(),
            stderr=stderr_bytes(),
            stdout_terminal=sys.stdout.isatty(),
            stderr_terminal=sys.stderr.isatty(),
            say=inv.say,
        )

    def follow(self) -> Ended:
        """Returns the end. Raises CliError with 124 or 130 when the run goes on without us."""
        with self._interrupts.installed():
            self._feed.start()
            try:
                while True:
                    if ended := self._next():
                        return ended
            except KeyboardInterrupt:
                if sys.stderr.isatty():
                    click.echo(err=True)  # the terminal has put a ^C on this line
                raise self._left("detached", ExitCode.INTERRUPTED) from None
            except BrokenPipeError:
                discard_closed_outputs()
                raise self._left("the output was closed", ExitCode.INTERRUPTED) from None
            finally:
                self._feed.close()
                self._writer.finish()
                self._writer.end_lines()

    def _next(self) -> Ended | None:
        now_s = self._inv.clock.monotonic_s()
        left = TICK_S if self._end is None else min(TICK_S, self._end - now_s)
        if left <= 0:
            raise self._left("--wait-timeout has passed", ExitCode.WAIT_TIMED_OUT)
        if self._cancel_at_s is not None and now_s >= self._cancel_at_s:
            self._cancel()
        try:
            event = self._feed.events.get(timeout=left)
        except queue.Empty:
            self._tell_why_it_waits()
            return None
        match event:
            case Ended():
                return event
            case Failed(error=error):
                self._inv.say(f"banksman: run {short_id(self._run.id)} goes on, but cannot be followed")
                raise error
            case Interrupted(signal_number=number):
                self._interrupted(number)
            case _:
                self._begun = self._begun or isinstance(event, Begin)
                self._writer.take(event)
                self._feed.taken()
        return None

    def _tell_why_it_waits(self) -> None:
        """Once, and again when the reason changes; a control plane that is away says nothing."""
        if self._begun:
            return
        client = self._inv.client
        request = contract.run_pb2.GetRunRequest(run=self._run.id, project=self._run.project_id)
        try:
            run = client.call(client.runs.GetRun, request, repeatable=False, deadline_s=2.0)
        except CliError as error:
            if error.exit_code == ExitCode.UNAVAILABLE:
                return
            raise
        why = run.waiting_because or "no runner has taken it yet"
        if state_word(run) == "QUEUED" and why != self._waiting_because:
            self._waiting_because = why
            self._inv.say(f"banksman: run {short_id(run.id)} is queued: {why}")

    def _interrupted(self, number: int) -> None:
        if number == signal.SIGINT and sys.stdin.isatty() and sys.stderr.isatty():
            answer = self._ask()
            if answer == "d":
                raise self._left("detached", ExitCode.INTERRUPTED)
            if answer != "c":
                self._interrupts.reset()
                return
        self._inv.say(f"banksman: cancelling run {short_id(self._run.id)}; interrupt again to detach")
        self._interrupts.reset(seen=1)
        self._cancel()

    def _cancel(self) -> None:
        """Ask for it, again and again while the control plane is away."""
        self._cancel_at_s = None
        request = contract.run_pb2.CancelRunRequest(
            run=self._run.id, project=self._run.project_id, note="interrupted by the one who followed it"
        )
        try:
            self._inv.client.call(self._inv.client.runs.CancelRun, request, repeatable=True)
        except CliError as error:
            if error.exit_code == ExitCode.UNAVAILABLE:
                self._inv.say("banksman: the control plane does not answer; the cancel is asked for again")
                self._cancel_at_s = self._inv.clock.monotonic_s() + CANCEL_AGAIN_S
            elif error.exit_code != ExitCode.CONFLICT:
                raise
            # A conflict: it ended a moment before, and its own end is already on the way.

    def _ask(self) -> str:
        question = "\nbanksman: (c)ancel the run, (d)etach and let it go on, or Enter to keep following? "
        click.echo(question, err=True, nl=False)
        return sys.stdin.readline().strip().lower()[:1]

    def _left(self, why: str, exit_code: ExitCode) -> CliError:
        return CliError(
            f"{why}; run {short_id(self._run.id)} goes on",
            exit_code=exit_code,
            next_command=f"banksman run logs {short_id(self._run.id)} -f",
            wanted=True,
        )


def follow_run(inv: Invocation, run: contract.run_pb2.Run, *, wait_timeout_s: float | None, propagate: bool) -> int:
    """Follow a fresh run and say how it ended. Returns the exit code."""
    ended = RunFollower(inv, run, wait_timeout_s=wait_timeout_s).follow() if run.is_active else Ended(run, True)
    inv.say(end_line(ended.run))
    if meant := shell_line(ended.run):
        inv.say(f"next:  no shell reads a command; if one is wanted: banksman run exec -- {meant}")
    code = of_run(ended.run, propagate=propagate)
    if not ended.log_complete:
        inv.say("banksman: the log is incomplete: its runner is away or has lost the rest")
        return code or ExitCode.LOG_INCOMPLETE
    return code


def end_line(run: contract.run_pb2.Run) -> str:
    """State, reason as a sentence, duration, id: one line."""
    from control_plane.cli.durations import format_duration

    took = span(run, "duration").duration_s
    reason = reason_sentence(run).rstrip(". ") or "it ended"
    facts = f"{format_duration(took)}, run {run.id}" if took is not None else f"run {run.id}"
    return plain(f"banksman: {state_word(run)}: {reason}. ({facts})")


def shell_line(run: contract.run_pb2.Run) -> str:
    """What was probably meant by a command that is one word with blanks in it and names no program; else empty."""
    words = [word for step in run.spec.steps for word in step.command.argv]
    if enum_word(run, "reason") != "SPAWN_FAILED" or len(words) != 1 or " " not in words[0].strip():
        return ""
    return plain(shlex.join(["sh", "-c", words[0]]))
