"""One attempt on this host: carries out what was decided about it, in order, and tells what its shim tells."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
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
from runner_agent.execution.afterwards import judged
from runner_agent.execution.journal import Notes
from runner_agent.execution.preparation import prepare
from runner_agent.execution.room import Room
from runner_agent.execution.run_directory import Entry, Standing, StillLive
from runner_agent.execution.shim_events import event_of
from runner_agent.execution.shim_link import ForkServerGone, ShimGone, ShimLink, ShimRefused, UnknownShimVersion
from runner_agent.execution.translate import record_of, report_of, shim_reason
from runner_agent.launchers import command
from runner_agent.shim.codec import BadMessage
from runner_agent.telemetry import logger
from runner_agent.workspace.kept import leave
from runner_agent.workspace.removal import NotRemoved

MAX_WAITING = 256
FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 5.0

AttemptOutput = JournalAccept | Prepare | Fork | EndUnstarted | StopTree | TerminateShim | RenewLoss | Forget


class Execution:
    """The actor of one attempt. `do` queues, `run` carries out."""

    def __init__(self, key: AttemptKey, room: Room, *, notes: Notes | None = None) -> None:
        self.key = key
        self.directory: Path = room.state.path_of(key.run_id, key.lease_epoch)
        self._room = room
        self._notes = notes or Notes()
        self._queue: asyncio.Queue[AttemptOutput] = asyncio.Queue(MAX_WAITING)
        self._tasks: asyncio.TaskGroup | None = None
        self._link: ShimLink | None = None
        self._stop: StopTree | None = None
        self._renewal: RenewLoss | None = None
        self._finding = False
        self._forgetting = False
        self._report: ExitReport | None = None
        self._upload: asyncio.Task[None] | None = None
        self._log = logger("execution").bind(run=key.run_id, epoch=key.lease_epoch)

    def do(self, output: AttemptOutput) -> None:
        """Queue what was decided. Of renewals only the newest counts, so that they never fill the queue."""
        if isinstance(output, RenewLoss):
            waiting, self._renewal = self._renewal, output
            if waiting is not None:
                return
        try:
            self._queue.put_nowait(output)
        except asyncio.QueueFull:
            self._log.warning("attempt_is_stuck", dropped=type(output).__name__)

    async def run(self, *, attach: bool = False, over: ExitReport | None = None) -> None:
        """Until the attempt is forgotten. With `attach`, find its live shim first; `over`: how it has ended before."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            if attach:
                self._look_for_it()
            if over is not None:
                self._hand_in(over)
            try:
                while not isinstance(output := await self._queue.get(), Forget):
                    await self._carry_out(output)
                await self._forget()
            finally:
                if self._link is not None:
                    self._link.close()
                if self._upload is not None:
                    self._upload.cancel()

    async def _carry_out(self, output: AttemptOutput) -> None:
        match output:
            case JournalAccept():
                await self._accept(output.slots)
            case Prepare():
                await self._prepare(output.assignment)
            case Fork():
                await self._fork(output)
            case EndUnstarted():
                await self._end_unstarted(output.report)
            case StopTree():
                self._stop = output
                await self._tell_stop()
            case RenewLoss():
                await self._renew()
            case TerminateShim():
                await self._terminate()
            case Forget():
                raise AssertionError("Forget ends the loop")
            case _:
                assert_never(output)

    # ---- before the fork

    async def _accept(self, slots: int) -> None:
        key = self.key
        try:
            await asyncio.to_thread(self._room.state.accept, key.run_id, key.lease_epoch, {"slots": slots})
        except OSError as error:
            self._log.warning("accept_failed", error=str(error))
            await self._room.post(events.JournalFailed(key=key, error=str(error)))
        else:
            await self._room.post(events.JournalDone(key=key))

    async def _prepare(self, assignment: Assignment) -> None:
        self._notes = journal.notes_on(assignment, self._room.boot_id)
        failure = await asyncio.to_thread(prepare, self.directory, self._room.workspaces, assignment, self._notes)
        if failure is None:
            await self._room.post(events.Prepared(key=self.key))
        else:
            self._log.warning("prepare_failed", error=failure.error_message)
            await self._room.post(events.PrepareFailed(key=self.key, report=failure))

    async def _end_unstarted(self, report: ExitReport) -> None:
        record = record_of(self.key, report)
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
        await self._ended(told)

    # ---- the fork

    async def _fork(self, output: Fork) -> None:
        place = self._room.workspaces.place(self.directory.name)
        surroundings = command.Surroundings(
            work=place.work,
            scripts=place.scripts,
            runner_name=self._room.runner_name,
            cookie=secrets.token_hex(16),
            base_env=self._room.base_env,
        )
        start = command.attempt_start(
            output.assignment,
            surroundings,
            loss_deadline_boottime_ns=output.loss_deadline_boot_ns,
            start_timeout_s=output.start_timeout_s,
        )
        try:
            fork_server = await self._room.fork_servers.get()
            link = await fork_server.start(self.directory, start)
        except (ForkServerGone, ShimRefused, TimeoutError, OSError, BadMessage) as error:
            self._log.warning("fork_failed", error=str(error) or type(error).__name__)
            self._look_for_it(f"no shim could be started: {error or type(error).__name__}")
            return
        self._follow(link)

    def _follow(self, link: ShimLink) -> None:
        assert self._tasks is not None
        self._link = link
        self._tasks.create_task(self._read_events(link), name=f"events {self.key}")

    async def _read_events(self, link: ShimLink) -> None:
        try:
            async for event in link.events():
                if isinstance(event, ShimGone):
                    self._drop(link)
                    await self._find_again()
                elif isinstance(told := event_of(self.key, event, self._notes), events.Exited):
                    await self._ended(told.report)
                elif told is not None:
                    await self._room.post(told)
        except BadMessage as error:
            self._log.warning("shim_not_understood", error=str(error))
            self._drop(link)
            await self._find_again()
        finally:
            self._drop(link)

    def _drop(self, link: ShimLink) -> None:
        link.close()
        if self._link is link:
            self._link = None

    # ---- stopping

    async def _tell_stop(self) -> None:
        stop = self._stop
        if self._link is None or stop is None:
            return
        try:
            number = command.signal_number(stop.signal)
        except command.Unlaunchable:
            number = command.signal_number(DEFAULT_STOP_SIGNAL)
        try:
            await self._link.stop(shim_reason(stop.reason), number, stop.grace_s)
        except ConnectionError:
            return  # the shim has left: its events say so, and the run directory says how it ended

    async def _renew(self) -> None:
        renewal, self._renewal = self._renewal, None
        if self._link is None or renewal is None:
            return
        try:
            await self._link.renew(renewal.deadline_boot_ns)
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

    async def _ended(self, report: ExitReport) -> None:
        work = self._room.workspaces.place(self.directory.name).work
        report = await asyncio.to_thread(judged, report, self._notes, work)
        await self._room.post(events.Exited(key=self.key, report=report))
        self._hand_in(report)

    def _hand_in(self, report: ExitReport) -> None:
        """Upload what it has left, once and beside everything else."""
        if self._report is not None:
            return
        self._report = report
        if self._notes.artifacts and report.leaves_files:
            assert self._tasks is not None
            self._upload = self._tasks.create_task(self._upload_all(), name=f"upload {self.key}")

    async def _upload_all(self) -> None:
        await self._room.upload(self.key, self._room.workspaces.place(self.directory.name).work)
        await self._room.post(events.UploadMoved(key=self.key, done=True))

    # ---- without a link: what does the run directory say?

    def _look_for_it(self, why: str = "") -> None:
        """Find out beside the queue: a stop that is ordered meanwhile must not wait for it."""
        assert self._tasks is not None
        self._tasks.create_task(self._find_again(why), name=f"find {self.key}")

    async def _find_again(self, why: str = "") -> None:
        """Settle the run directory until a shim answers or the attempt is over."""
        if self._finding:
            return
        self._finding = True
        try:
            await self._settle(why)
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
                    await self._ended(report)
                    return
                case Standing.ACCEPTED:
                    await self._end_unstarted(not_started(Reason.NOT_STARTED, why or "no shim was started"))
                    return
                case Standing.LIVE:
                    if await self._attach():
                        return
                case _:
                    await self._room.post(events.Quarantined(key=self.key, message=entry.message))
                    return
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)

    async def _look(self) -> Entry | None:
        key = self.key
        try:
            return await self._room.threads.settle(self._room.state.settle, key.run_id, key.lease_epoch)
        except FileNotFoundError:
            await self._room.post(events.Quarantined(key=key, message="its run directory has vanished"))
            return None

    async def _attach(self) -> bool:
        try:
            link = await ShimLink.attach(self.directory, run_id=self.key.run_id, epoch=self.key.lease_epoch)
        except UnknownShimVersion:
            await self._room.post(events.ShimUnknown(key=self.key))
            return False  # it is left alone until it has ended
        except (OSError, ShimRefused, TimeoutError, BadMessage) as error:
            self._log.debug("attach_failed", error=str(error))
            return False
        self._follow(link)
        await self._tell_stop()
        return True

    async def _forget(self) -> None:
        self._forgetting = True
        if self._link is not None:
            self._drop(self._link)
        if self._upload is not None:
            self._upload.cancel()
        until_ns = None if self._report is None else self._report.workspace_kept_until_ns
        try:
            await self._room.threads.remove(leave, self._room.workspaces, self.directory.name, until_ns)
        except (OSError, NotRemoved) as error:
            self._log.warning("workspace_not_removed", error=str(error))
        await self._shim_has_left()
        try:
            await self._room.threads.remove(self._room.state.release, self.key.run_id, self.key.lease_epoch)
        except (OSError, StillLive) as error:
            self._log.warning("not_removed", error=str(error))
        await self._room.post(events.Forgotten(key=self.key))

    async def _shim_has_left(self) -> None:
        """A shim holds its lock for a moment after its last event; no thread should wait for that."""
        pause_s = FIRST_PAUSE_S / 8
        while pause_s < LONGEST_PAUSE_S and journal.is_held(self.directory):
            await asyncio.sleep(pause_s)
            pause_s *= 2
