"""One attempt on a simulated host, as the agent carries it out: in order, one thing at a time, beside its shim."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from runner_agent.domain import events
from runner_agent.domain.exit_report import ExitReport, Outcome, not_started
from runner_agent.domain.ids import AttemptKey
from runner_agent.domain.outputs import (
    EndUnstarted,
    Forget,
    Fork,
    JournalAccept,
    Prepare,
    RenewLoss,
    StopTree,
    TerminateShim,
)
from runner_agent.domain.reason import Reason
from runner_agent.execution import journal
from runner_agent.execution.journal import Notes
from runner_agent.execution.shim_events import event_of
from runner_agent.execution.translate import record_of, report_of, shim_reason
from runner_agent.launchers import command
from runner_agent.shim import remains
from runner_agent.shim.messages import Exited, ShimEvent
from runner_agent.shim.remains import Standing
from runner_agent.shim.states import StopRequested
from tests.simulation.host import RunDir, SimRemains
from tests.simulation.load import Program
from tests.simulation.shim import SimShim
from tests.simulation.truth import Key

if TYPE_CHECKING:
    from tests.simulation.agent import SimAgent

Output = JournalAccept | Prepare | Fork | EndUnstarted | StopTree | TerminateShim | RenewLoss | Forget


class SimExecution:
    """The actor of one attempt."""

    def __init__(self, agent: SimAgent, key: AttemptKey, notes: Notes | None = None) -> None:
        self.agent, self.key, self.host = agent, key, agent.host
        self.where = Key(key.run_id, key.lease_epoch)
        self.notes = notes or Notes()
        self.link: SimShim | None = None
        self._queue: deque[Output] = deque()
        self._busy = False
        self._stop: StopTree | None = None
        self._renewal: RenewLoss | None = None
        self._finding = False
        self._forgetting = False

    def do(self, output: Output) -> None:
        """Queue what was decided; of renewals only the newest counts."""
        if isinstance(output, RenewLoss):
            waiting, self._renewal = self._renewal, output
            if waiting is not None:
                return
        self._queue.append(output)
        self._turn()

    def _turn(self) -> None:
        if not self._busy and self._queue:
            self._busy = True
            self.agent.life.later(self._cost_s(self._queue[0]), self._next)

    def _next(self) -> None:
        output = self._queue.popleft()
        self.agent.life.point(f"agent carries out {type(output).__name__}")
        self._carry_out(output)

    def _done(self) -> None:
        self._busy = False
        self._turn()

    def _cost_s(self, output: Output) -> float:
        rng = self.host.rng
        if isinstance(output, JournalAccept | EndUnstarted):
            return rng.uniform(0.001, 0.05)
        if isinstance(output, Prepare):
            return rng.choice((0.01, 0.3, 5.0)) if rng.random() < 0.95 else 40.0
        return 0.001

    def _carry_out(self, output: Output) -> None:
        match output:
            case JournalAccept():
                self._accept(output.slots)
            case Prepare():
                self.notes = journal.notes_on(output.assignment, self.host.boot_id)
                self._dir().write("agent", self.notes, sync=False)
                self.agent.hear(events.Prepared(key=self.key))
                self._done()
            case Fork():
                self._fork(output)
            case EndUnstarted():
                self._end_unstarted(output.report)
            case StopTree():
                self._stop = output
                self._tell_stop()
                self._done()
            case RenewLoss():
                renewal, self._renewal = self._renewal, None
                if self._linked() and self.link is not None and renewal is not None:
                    self.link.renew(renewal.deadline_boot_ns)
                self._done()
            case TerminateShim():
                self._done()
            case Forget():
                self._forget()
            case _:
                assert_never(output)

    def _dir(self) -> RunDir:
        directory = self.host.dirs.get(self.where)
        if directory is None:
            directory = self.host.dirs[self.where] = RunDir(self.where)
        return directory

    # -- before the fork

    def _accept(self, slots: int) -> None:
        if self.host.full:
            self.agent.hear(events.JournalFailed(key=self.key, error="no space left on device"))
        else:
            self._dir().write("accept", {"slots": slots})
            self.agent.life.point("agent: acceptance journalled")
            self.agent.hear(events.JournalDone(key=self.key))
        self._done()

    def _end_unstarted(self, report: ExitReport) -> None:
        record = record_of(self.key, report)
        try:
            stored = remains.end_unstarted(SimRemains(self.host, self._dir()), record)
        except OSError:
            stored = record
        if stored is None:
            self.find()
        else:
            self.agent.life.point("agent: tombstone left")
            told = replace(report, digest=record.digest or "") if stored == record else report_of(stored)
            self.agent.hear(events.Exited(key=self.key, report=told))
        self._done()

    # -- the fork

    def _fork(self, output: Fork) -> None:
        """Ask the fork server for a shim; the start follows when it says that it is ready."""
        surroundings = command.Surroundings(
            work=Path("/w"), scripts=Path("/s"), runner_name=self.host.name, cookie="c", base_env={}
        )
        start = command.attempt_start(
            output.assignment,
            surroundings,
            loss_deadline_boottime_ns=output.loss_deadline_boot_ns,
            start_timeout_s=output.start_timeout_s,
        )
        argv = tuple(step.command.argv for step in output.assignment.steps)
        program = Program(argv=argv, epoch=self.key.lease_epoch)
        guard = self.host.guard()
        born: list[SimShim] = []

        def fork() -> None:
            guard.point("fork server: forks a shim")
            directory = self.host.dirs.get(self.where)
            if directory is not None:
                born.append(SimShim(self.host, directory, program))
                born[0].life.later(30.0, _abandon, born[0])

        def hand_over() -> None:
            if not born or not born[0].life.alive:
                self.find("no shim could be started: it has gone")
                self._done()
                return
            shim = born[0]
            answers: list[str] = []
            shim.life.later(0.001, lambda: answers.append(shim.begin(start)))
            self.agent.life.later(0.003, accepted, shim, answers)

        def accepted(shim: SimShim, answers: list[str]) -> None:
            if not answers and shim.life.alive:
                self.agent.life.later(0.1, accepted, shim, answers)
            elif answers and not answers[0]:
                self._follow(shim)
                self._done()
            else:
                self.find(f"no shim could be started: {answers or 'gone'}")
                self._done()

        guard.later(self.host.rng.uniform(0.001, 0.02), fork)
        self.agent.life.later(0.03, hand_over)

    def _follow(self, shim: SimShim) -> None:
        self.link = shim
        shim.attach(self._heard)
        # A closed socket is news for the agent only: it may be gone by then.
        if shim.life.alive:
            shim.life.on_death.append(lambda: self.agent.life.later(0.001, self._gone, shim))
        else:
            self.agent.life.later(0.001, self._gone, shim)

    def _heard(self, event: ShimEvent) -> None:
        """A shim's word on its way to this agent's life."""
        if self.agent.life.alive:
            self.agent.life.later(0.0, self._tell, event)

    def _tell(self, event: ShimEvent) -> None:
        if self.link is None or self._forgetting:
            return
        if isinstance(event, Exited):
            self.link = None
        told = event_of(self.key, event, self.notes)
        if told is not None:
            self.agent.hear(told)

    def _gone(self, shim: SimShim) -> None:
        if self.link is shim:
            self.link = None
            self.find()

    def _linked(self) -> bool:
        return self.link is not None and self.link.life.alive

    # -- stopping

    def _tell_stop(self) -> None:
        stop = self._stop
        if not self._linked() or self.link is None or stop is None:
            return
        number = command.signal_number(stop.signal)
        grace_ns = int(stop.grace_s * 1e9)
        self.link.stop(StopRequested(reason=shim_reason(stop.reason), signal=number, grace_ns=grace_ns))

    # -- without a link: what does the run directory say?

    def find(self, why: str = "") -> None:
        """Settle the run directory until a shim answers or the attempt is over."""
        if not self._finding:
            self._finding = True
            self.agent.life.later(0.002, self._settle, why, 0.02)

    def _settle(self, why: str, pause_s: float) -> None:
        if self._forgetting or self._look(why):
            self._finding = False
            return
        self.agent.life.later(pause_s, self._settle, why, min(5.0, 2 * pause_s))

    def _look(self, why: str) -> bool:
        directory = self.host.dirs.get(self.where)
        if directory is None:
            self.agent.hear(events.Quarantined(key=self.key, message="its run directory has vanished"))
            return True
        standing, record = remains.settle(SimRemains(self.host, directory))
        self.agent.life.point("agent: settled a run directory")
        match standing:
            case Standing.EXITED if record is not None:
                report = report_of(record, self.notes.step_names)
                if why and report.outcome is Outcome.NOT_STARTED:
                    report = replace(report, error_message=why)
                self.agent.hear(events.Exited(key=self.key, report=report))
                return True
            case Standing.ACCEPTED:
                self._end_unstarted(not_started(Reason.NOT_STARTED, why or "no shim was started"))
                return True
            case _:
                return self._attach()

    def _attach(self) -> bool:
        shim = self.host.shims.get(self.where)
        if shim is None or not shim.listening or shim.life.frozen:
            return False
        self._follow(shim)
        self._tell_stop()
        return True

    def _forget(self) -> None:
        self._forgetting = True
        self.link = None
        directory = self.host.dirs.get(self.where)
        if directory is not None and directory.lock is not None:
            self.agent.life.later(0.02, self._forget)
            return
        self.host.dirs.pop(self.where, None)
        self.agent.forgotten(self)


def _abandon(shim: SimShim) -> None:
    """A shim that nobody gave a start leaves."""
    if not hasattr(shim, "state"):
        shim.leave_unused()
