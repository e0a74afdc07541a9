"""One attempt on this host: carries out what was decided about it, in order, and tells what its shim tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import assert_never

from runner_agent.domain import events
from runner_agent.domain.assignment import DEFAULT_STOP_SIGNAL, Assignment
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
from runner_agent.execution.actor import Actor, AttemptOutput
from runner_agent.execution.afterwards import asks_the_disk, judged
from runner_agent.execution.ahead import Ahead
from runner_agent.execution.handover import Handover
from runner_agent.execution.journal import Notes
from runner_agent.execution.preparation import is_much
from runner_agent.execution.removal import Leftover, Removed, WorkspaceHasFiles
from runner_agent.execution.room import Room
from runner_agent.execution.run_directory import Acceptance, Entry, Standing, StillLive
from runner_agent.execution.shim_events import event_of
from runner_agent.execution.shim_link import ShimEvent, ShimGone, ShimLink, ShimRefused, UnknownShimVersion
from runner_agent.execution.translate import record_of, report_of, shim_reason
from runner_agent.launchers import command
from runner_agent.shim.codec import BadMessage
from runner_agent.workspace.kept import leave
from runner_agent.workspace.removal import NotRemoved

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 5.0


class Execution(Actor):
    """Accept, prepare, fork, follow, stop, forget."""

    def __init__(
        self,
        key: AttemptKey,
        room: Room,
        tasks: asyncio.TaskGroup,
        over: Callable[[AttemptKey], None],
        *,
        notes: Notes | None = None,
        found: Callable[[AttemptKey], None],
    ) -> None:
        super().__init__(key, room, tasks, over)
        self._notes = notes or Notes()
        self._found = found
        self._place = room.workspaces.place(self.directory.name)
        self._ahead = Ahead(room, self.directory)
        self._link: ShimLink | None = None
        self._stop: StopTree | None = None
        self._finding = False
        self._forgetting = False
        self._report: ExitReport | None = None
        self._upload: asyncio.Task[None] | None = None

    def adopt(self, *, attach: bool, over: ExitReport | None) -> None:
        """Take over what an earlier agent has left. `attach`: find its live shim; `over`: how it has ended before."""
        if attach:
            self._look_for_it()
        if over is not None:
            self._hand_in(over)

    def abandon(self) -> None:
        """Let go of it; what lives goes on under its shim."""
        super().abandon()
        self._ahead.drop_shim()
        if self._link is not None:
            self._drop(self._link)

    def _carry_out(self, output: AttemptOutput) -> None:
        self._ahead.end()
        match output:
            case JournalAccept():
                self._accept(output.slots)
            case Prepare():
                self._prepare(output.assignment)
            case Fork():
                self._fork(output)
            case EndUnstarted():
                self._step(self._end_unstarted(output.report), "end")
            case StopTree():
                self._stop = output
                self._tell_stop()
            case RenewLoss():
                self._renew()
            case TerminateShim():
                self._step(self._terminate(), "terminate")
            case Forget():
                self._forget()
            case _:
                assert_never(output)

    # ---- before the fork

    def _accept(self, slots: int) -> None:
        """Goes on when it is on disk, together with others'."""
        self._busy = True
        acceptance = Acceptance(run_id=self.key.run_id, epoch=self.key.lease_epoch, details={"slots": slots})
        self._room.journal.put(acceptance, self._accepted)
        self._ahead.begin(usual=acceptance.is_usual)

    def _accepted(self, error: OSError | None) -> None:
        if error is None:
            self._room.post(events.JournalDone(key=self.key))
            self._ahead.go_on()
        else:
            self._log.warning("accept_failed", error=str(error))
            self._room.post(events.JournalFailed(key=self.key, error=str(error)))
        self._go_on()

    def _prepare(self, assignment: Assignment) -> None:
        self._notes = journal.notes_on(assignment, self._room.boot_id)
        if is_much(assignment):
            self._step(self._prepare_much(assignment), "prepare")
        else:
            self._prepared(self._ahead.prepare(assignment, self._notes))

    async def _prepare_much(self, assignment: Assignment) -> None:
        self._prepared(await asyncio.to_thread(self._ahead.prepare, assignment, self._notes))

    def _prepared(self, failure: ExitReport | None) -> None:
        if failure is None:
            self._room.post(events.Prepared(key=self.key))
        else:
            self._log.warning("prepare_failed", error=failure.error_message)
            self._room.post(events.PrepareFailed(key=self.key, report=failure))

    async def _end_unstarted(self, report: ExitReport) -> None:
        record = record_of(self.key, report)
        if self._ahead.drop_shim():
            await self._until_left()
        try:
            stored = await asyncio.to_thread(journal.end_unstarted, self.directory, record)
        except StillLive:
            self._look_for_it()
            return
        except (OSError, BadMessage) as error:
            # It was never handed to a fork server and this agent never will: that is true with or without a record.
            self._log.warning("end_not_stored", error=str(error))
            stored = record
        told = replace(report, digest=record.digest or "") if stored == record else report_of(stored)
        self._ended(told)

    # ---- the fork

    def _fork(self, output: Fork) -> None:
        """Goes on when a shim has taken it over."""
        self._busy = True
        Handover(
            room=self._room, directory=self.directory, output=output, spawn=self._spawn, done=self._forked,
            reserved=self._ahead.take_shim(),
        ).begin()  # fmt: skip

    def _forked(self, told: ShimLink | Exception) -> None:
        if isinstance(told, ShimLink):
            self._follow(told)
        else:
            self._log.warning("fork_failed", error=str(told) or type(told).__name__)
            self._look_for_it(f"no shim could be started: {told or type(told).__name__}")
        self._go_on()

    def _follow(self, link: ShimLink) -> None:
        self._link = link
        link.listen(partial(self._hear, link), partial(self._not_understood, link))

    def _hear(self, link: ShimLink, event: ShimEvent) -> None:
        try:
            if isinstance(event, ShimGone):
                self._drop(link)
                self._look_for_it()
            elif isinstance(told := event_of(self.key, event, self._notes), events.Exited):
                self._drop(link)
                self._ended(told.report)
            elif told is not None:
                self._room.post(told)
        except BadMessage:
            raise
        except Exception as error:  # noqa: BLE001 - as above: here nobody else would hear of it
            self._break(error)

    def _not_understood(self, link: ShimLink, error: BadMessage) -> None:
        """It will say the same to whoever attaches: not at once, and not in a line of the log for each time it can."""
        self._log.warning("shim_not_understood", error=str(error))
        self._drop(link)
        self._look_for_it(after_s=LONGEST_PAUSE_S)

    def _drop(self, link: ShimLink) -> None:
        link.close()
        if self._link is link:
            self._link = None

    # ---- stopping

    def _tell_stop(self) -> None:
        stop = self._stop
        if self._link is None or stop is None:
            return
        try:
            number = command.signal_number(stop.signal)
        except command.Unlaunchable:
            number = command.signal_number(DEFAULT_STOP_SIGNAL)
        try:
            self._link.stop(shim_reason(stop.reason), number, stop.grace_s)
        except ConnectionError:
            return  # the shim has left: its events say so, and the run directory says how it ended

    def _renew(self) -> None:
        renewal, self._renewal = self._renewal, None
        if self._link is None or renewal is None:
            return
        try:
            self._link.renew(renewal.deadline_boot_ns)
        except ConnectionError:
            return  # as above

    async def _terminate(self) -> None:
        try:
            sent = await asyncio.to_thread(journal.terminate_shim, self.directory)
        except (OSError, BadMessage) as error:
            self._log.warning("terminate_failed", error=str(error))
        else:
            self._log.info("shim_terminated", sent=sent)

    # ---- when it is over

    def _ended(self, report: ExitReport) -> None:
        work = self._place.work
        if asks_the_disk(self._notes):
            self._spawn(self._judge(report, work), "judge")
        else:
            self._tell_end(judged(report, self._notes, work))

    async def _judge(self, report: ExitReport, work: Path) -> None:
        self._tell_end(await asyncio.to_thread(judged, report, self._notes, work))

    def _tell_end(self, report: ExitReport) -> None:
        self._room.post(events.Exited(key=self.key, report=report))
        self._hand_in(report)

    def _hand_in(self, report: ExitReport) -> None:
        """Upload what it has left, once and beside everything else."""
        if self._report is not None:
            return
        self._report = report
        if self._notes.artifacts and report.leaves_files:
            self._upload = self._spawn(self._upload_all(), "upload")

    async def _upload_all(self) -> None:
        await self._room.upload(self.key, self._place.work)
        self._room.post(events.UploadMoved(key=self.key, done=True))

    # ---- without a link: what does the run directory say?

    def _look_for_it(self, why: str = "", *, after_s: float = 0.0) -> None:
        """Find out beside the queue: a stop that is ordered meanwhile must not wait for it."""
        self._spawn(self._find_again(why, after_s), "find")

    async def _find_again(self, why: str, after_s: float) -> None:
        """Settle the run directory until a shim answers or the attempt is over."""
        if self._finding:
            return
        self._finding = True
        try:
            await asyncio.sleep(after_s)
            await self._settle(why)
            self._found(self.key)
        finally:
            self._finding = False

    async def _settle(self, why: str) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._forgetting:
            entry = await self._look()
            if entry is None:
                return
            match entry.standing:
                case Standing.EXITED if entry.record is not None:
                    report = report_of(entry.record, self._notes.step_names)
                    if why and report.outcome is Outcome.NOT_STARTED:
                        report = replace(report, error_message=why)
                    self._ended(report)
                    return
                case Standing.ACCEPTED:
                    await self._end_unstarted(not_started(Reason.NOT_STARTED, why or "no shim was started"))
                    return
                case Standing.LIVE:
                    if await self._attach():
                        return
                case _:
                    self._room.post(events.Quarantined(key=self.key, message=entry.message))
                    return
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)

    async def _look(self) -> Entry | None:
        key = self.key
        try:
            return await self._room.threads.settle(self._room.state.settle, key.run_id, key.lease_epoch)
        except FileNotFoundError:
            self._room.post(events.Quarantined(key=key, message="its run directory has vanished"))
            return None

    async def _attach(self) -> bool:
        try:
            link = await ShimLink.attach(self.directory, run_id=self.key.run_id, epoch=self.key.lease_epoch)
        except UnknownShimVersion:
            self._room.post(events.ShimUnknown(key=self.key))
            return False  # it is left alone until it has ended
        except (OSError, ShimRefused, TimeoutError, BadMessage) as error:
            self._log.debug("attach_failed", error=str(error))
            return False
        self._link = link
        self._tell_stop()  # first: what it tells may not be understood, and then the link is gone
        self._follow(link)
        return True

    def _forget(self) -> None:
        """The end: nothing is carried out after it."""
        self._busy = self._forgetting = True
        self._ahead.drop_shim()
        if self._link is not None:
            self._drop(self._link)
        if self._upload is not None:
            self._upload.cancel()
        until_ns = None if self._report is None else self._report.workspace_kept_until_ns
        if until_ns is None:
            leftover = Leftover(run_id=self.key.run_id, epoch=self.key.lease_epoch, workspace=True, patience_s=0.0)
            self._room.removal.put(leftover, self._removed_at_once)
        else:
            self._spawn(self._remove_slowly(until_ns), "forget")

    async def _remove_slowly(self, until_ns: int | None) -> None:
        try:
            await self._room.threads.remove(leave, self._room.workspaces, self.directory.name, until_ns)
        except (OSError, NotRemoved) as error:
            self._log.warning("workspace_not_removed", error=str(error))
        await self._remove_when_left()

    async def _until_left(self) -> None:
        """A shim holds its lock for a moment after its last event; no thread should wait for that."""
        pause_s = FIRST_PAUSE_S / 8
        while pause_s < LONGEST_PAUSE_S and journal.is_held(self.directory):
            await asyncio.sleep(pause_s)
            pause_s *= 2

    async def _remove_when_left(self) -> None:
        await self._until_left()
        leftover = Leftover(run_id=self.key.run_id, epoch=self.key.lease_epoch, workspace=False)
        self._room.removal.put(leftover, self._removed)

    def _removed_at_once(self, error: Removed) -> None:
        """Most are; but there may be files in the workspace, and the shim may not have left yet."""
        if isinstance(error, WorkspaceHasFiles):
            self._spawn(self._remove_slowly(None), "forget")
        elif isinstance(error, StillLive):
            self._spawn(self._remove_when_left(), "forget")
        else:
            self._removed(error)

    def _removed(self, error: Removed) -> None:
        if error is not None:
            self._log.warning("not_removed", error=str(error))
        self._over(self.key)
        self._room.post(events.Forgotten(key=self.key))
