"""The agent's decisions under a clock of our own: a small stage for the tests of the domain."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from runner_agent.domain.assignment import Assignment, Command, Step
from runner_agent.domain.events import (
    Event,
    Exited,
    Forgotten,
    JournalDone,
    Prepared,
    Received,
    SessionClosed,
    SessionOpened,
    Started,
    Tick,
)
from runner_agent.domain.exit_report import ExitReport, Outcome
from runner_agent.domain.held import Held, Phase
from runner_agent.domain.ids import AttemptKey, RunId
from runner_agent.domain.messages import Offer, RunnerMessage, ServerMessage, Stop, Verdict, VerdictKind, Welcome
from runner_agent.domain.outputs import Leave, Output, Send
from runner_agent.domain.reason import Reason
from runner_agent.domain.reconciler import decide, next_wake
from runner_agent.domain.state import AgentState, Identity, initial_state

T = TypeVar("T")
S = 1_000_000_000
IDENTITY = Identity(agent_version="1", slots=2, boot_id="boot-1", state_directory_id="dir-1")


def key(run: str = "r1", epoch: int = 1) -> AttemptKey:
    return AttemptKey(run_id=RunId(run), lease_epoch=epoch)


def assignment(run: str = "r1", epoch: int = 1, *, lost_after_s: float | None = 60.0, **changes: object) -> Assignment:
    steps = (Step(command=Command(argv=("true",))),)
    made = Assignment(key=key(run, epoch), steps=steps, lost_after_s=lost_after_s)
    return replace(made, **changes)  # type: ignore[arg-type]


def report(outcome: Outcome = Outcome.ENDED_WELL, **changes: object) -> ExitReport:
    made = ExitReport(outcome=outcome, reason=Reason.EXIT_ZERO, exit_code=0, tree_empty=True, final_offset=10)
    return replace(made, **changes)  # type: ignore[arg-type]


def stop(run: str = "r1", epoch: int = 1, grace_s: float = 10.0) -> Stop:
    return Stop(key=key(run, epoch), reason=Reason.USER_CANCEL, signal="SIGTERM", grace_s=grace_s)


def verdict(kind: VerdictKind, run: str = "r1", epoch: int = 1, **changes: object) -> Verdict:
    return replace(Verdict(key=key(run, epoch), kind=kind), **changes)  # type: ignore[arg-type]


class Core:
    """A state, a clock and what came out of every decision."""

    def __init__(self, *found: Held, identity: Identity = IDENTITY, now_s: float = 1_000.0) -> None:
        self.state: AgentState = initial_state(identity, found)
        self.now = int(now_s * S)
        self.history: list[Output] = []

    def feed(self, event: Event) -> tuple[Output, ...]:
        self.state, outputs = decide(self.state, event, self.now)
        self.history.extend(outputs)
        return outputs

    def hear(self, message: ServerMessage) -> tuple[Output, ...]:
        return self.feed(Received(message=message))

    def tick(self, seconds: float = 0.0) -> tuple[Output, ...]:
        self.now += int(seconds * S)
        return self.feed(Tick(load=0.0, disk_free_bytes=1 << 40))

    def run_clock(self, seconds: float) -> list[Output]:
        """Let time pass as the agent would live it: a Tick at each instant it asked for."""
        end, seen = self.now + int(seconds * S), []
        while (wake := next_wake(self.state)) is not None and wake <= end:
            self.now = max(self.now, wake)
            outputs = self.feed(Tick(load=0.0, disk_free_bytes=1 << 40))
            seen.extend(outputs)
            if any(isinstance(output, Leave) for output in outputs):
                break
            if not outputs and (again := next_wake(self.state)) is not None and again <= self.now:
                raise AssertionError(f"nothing moves at {self.now}")
        self.now = end
        return seen

    def open(self) -> tuple[Output, ...]:
        return self.feed(SessionOpened())

    def welcome(self, *verdicts: Verdict, interval_s: float = 5.0, lease_s: float = 15.0, **changes: object) -> None:
        message = Welcome(
            session_epoch=1,
            protocol=1,
            heartbeat_interval_s=interval_s,
            lease_s=lease_s,
            log_window_bytes=1 << 20,
            max_chunk_bytes=1 << 16,
            verdicts=verdicts,
        )
        self.hear(replace(message, **changes))  # type: ignore[arg-type]

    def connect(self, *verdicts: Verdict, **changes: object) -> None:
        self.open()
        self.welcome(*verdicts, **changes)  # type: ignore[arg-type]

    def cut(self) -> None:
        self.feed(SessionClosed(reason="cut"))

    def offer(self, run: str = "r1", epoch: int = 1, slots: int = 1) -> tuple[Output, ...]:
        return self.hear(Offer(key=key(run, epoch), slots=slots, summary="", deadline_s=10.0))

    def accept(self, run: str = "r1", epoch: int = 1) -> None:
        self.offer(run, epoch)
        self.feed(JournalDone(key=key(run, epoch)))

    def run(self, run: str = "r1", epoch: int = 1, *, lost_after_s: float | None = 60.0) -> None:
        """From offer to running."""
        self.accept(run, epoch)
        self.hear(assignment(run, epoch, lost_after_s=lost_after_s))
        self.feed(Prepared(key=key(run, epoch)))
        self.feed(Started(key=key(run, epoch), pid=7, at_ns=5))

    def end(self, run: str = "r1", epoch: int = 1, how: ExitReport | None = None) -> tuple[Output, ...]:
        return self.feed(Exited(key=key(run, epoch), report=how or report()))

    def forgotten(self, run: str = "r1", epoch: int = 1) -> None:
        self.feed(Forgotten(key=key(run, epoch)))

    def phase(self, run: str = "r1", epoch: int = 1) -> Phase | None:
        held = self.state.held.get(key(run, epoch))
        return None if held is None else held.phase

    def made(self, kind: type[T]) -> list[T]:
        """Every output of a kind so far."""
        return [output for output in self.history if isinstance(output, kind)]

    def said(self, kind: type[T]) -> list[T]:
        """Every message of a kind that was sent so far."""
        return sent(self.history, kind)


def sent(outputs: tuple[Output, ...] | list[Output], kind: type[T]) -> list[T]:
    messages: list[RunnerMessage] = [output.message for output in outputs if isinstance(output, Send)]
    return [message for message in messages if isinstance(message, kind)]
