"""The shim of one attempt: carries out what the decisions order and tells them what happens. One thread, one loop."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque

from runner_agent.shim import attempt_files, files, orders, protocol, tree
from runner_agent.shim.cgroup import Cgroup
from runner_agent.shim.child import Instruction, parse_report
from runner_agent.shim.clearing import Clearing
from runner_agent.shim.codec import JsonObject
from runner_agent.shim.decisions import decide, sleep_s
from runner_agent.shim.ground import Ground
from runner_agent.shim.instants import boottime_ns, now
from runner_agent.shim.loop import READ, Loop, SignalPipe
from runner_agent.shim.mask import Masker, NeedleSet
from runner_agent.shim.messages import AttemptStart, Exited, Reason, Result, StepEnded
from runner_agent.shim.meter import Meter
from runner_agent.shim.peers import Peer, Peers
from runner_agent.shim.requests import Requests
from runner_agent.shim.results import RELAY_S, Words
from runner_agent.shim.run_socket import RunSocket, RunVerbs
from runner_agent.shim.spool import Spool
from runner_agent.shim.spool_format import SYSTEM
from runner_agent.shim.starter import Starter
from runner_agent.shim.states import (
    Active,
    ChildForked,
    Event,
    ExecFailed,
    Executed,
    ForkFailed,
    IdentityStored,
    LeaderExited,
    PipesClosed,
    State,
    StopRequested,
    Ticked,
    TreeEmpty,
    initial_state,
)
from runner_agent.shim.streams import StepStreams
from runner_agent.shim.verdict import failed_validation, stop_words

LAST_WORDS_S = 2.0
NS = 1_000_000_000


class Shim:
    """One attempt, from the start message to the exit record."""

    def __init__(
        self, place: attempt_files.Place, ground: Ground, starter: Starter, start: AttemptStart, loop: Loop
    ) -> None:
        self._place = place
        self._ground = ground
        self._starter: Starter | None = starter
        self._start = start
        self._loop = loop
        self._state: State = initial_state(start)
        self._waiting: deque[Event] = deque()
        self._needles = NeedleSet()
        self._unmaskable = sum(not self._needles.add(secret) for secret in start.masks)
        self._spool = Spool(".", log_limit_bytes=start.log_limit_bytes, quota_bytes=start.spool_quota_bytes)
        requests = Requests(start, hear=self._hear, add_mask=self._needles.add, offset=lambda: self._spool.offset)
        self.peers = Peers(loop, lambda peer, frame: requests.serve(self.peers, peer, frame))
        self._streams: StepStreams | None = None
        self._clearing: Clearing | None = None
        self._cgroup: Cgroup | None = None
        self._child_pid = 0
        self._child_start_time: int | None = None
        self._run_socket: RunSocket | None = None
        self._meter = Meter()
        self._words = Words(self._needles)
        self._finish: orders.Finish | None = None

    # ---- before the first step

    def abandon(self) -> None:
        """Nothing will be started here."""
        if self._starter is not None:
            self._starter.abandon()
            self._starter = None

    def begin(self, agent: Peer) -> bool:
        """Decide whether the attempt may start here, and start it. False: refused."""
        self._state, ordered = decide(self._state, self._ground.begun, now())
        refusal = next((order for order in ordered if isinstance(order, orders.Refuse)), None)
        if refusal is None:
            try:
                self._settle_in()
            except OSError as error:
                refusal = orders.Refuse(code="DISK", message=f"the run directory cannot be prepared: {error}")
        if refusal is not None:
            self._ground.give_back()
            body: JsonObject = {"code": refusal.code, "message": refusal.message}
            self.peers.send(agent, protocol.encode_frame("refused", body))
            return False
        self.peers.send(agent, protocol.encode_frame("accepted"))
        self.peers.subscribe(agent)
        for order in ordered:
            self._carry_out(order)
        return True

    def _settle_in(self) -> None:
        ground = self._ground
        if ground.trouble is not None or ground.control is None or ground.run_socket is None:
            raise ground.trouble or OSError("nothing was made ready")
        self.peers.listen(ground.control)
        verbs = RunVerbs(add_mask=self._needles.add, progress=self._progress, result=self._take_result)
        self._run_socket = RunSocket(self._loop, *ground.run_socket, verbs)
        if self._unmaskable:
            self._say(f"{self._unmaskable} secret(s) of fewer than 8 bytes cannot be masked")

    # ---- the loop

    def run(self) -> None:
        """Until the exit record is stored and told."""
        signals = SignalPipe((signal.SIGCHLD, signal.SIGTERM))
        self._loop.watch(signals.descriptor, READ, lambda: self._on_signals(signals.read()))
        self._reap()  # a child that was forked before may have ended already
        self._settle_events()
        while self._finish is None:
            self._loop.turn(self._timeout_s())
            if self._clearing is not None:
                self._clear(self._clearing)
            self._hear(Ticked())
            self._settle_events()
            self._relay_progress()
            now_ns = boottime_ns()
            self._spool.sync_if_due(now_ns)
            self.peers.spooled(self._spool.offset, now_ns)
        self._leave(self._finish)

    def _timeout_s(self) -> float:
        now_ns = boottime_ns()
        timeout_s = min(sleep_s(self._state, now_ns), self.peers.news_due_s(now_ns))
        if self._clearing is not None:
            timeout_s = min(timeout_s, self._clearing.pause_s)
        if self._words.waits:
            timeout_s = min(timeout_s, RELAY_S)
        return min(timeout_s, 1.0) if self._spool.is_dirty else timeout_s

    def _hear(self, event: Event) -> None:
        self._waiting.append(event)

    def _settle_events(self) -> None:
        """Decide on everything that was heard; what is ordered may be heard of at once."""
        while self._waiting:
            self._state, ordered = decide(self._state, self._waiting.popleft(), now())
            for order in ordered:
                self._carry_out(order)

    def _carry_out(self, order: orders.Output) -> None:
        match order:
            case orders.ForkChild():
                self._fork(order.step)
            case orders.StoreIdentity():
                self._store_identity(order)
            case orders.ReleaseChild() if self._streams is not None:
                self._streams.release()
            case orders.AbandonChild() if self._streams is not None:
                self._streams.abandon()
            case orders.SignalTree():
                tree.signal_tree(os.getpid(), self._state.pid or 0, order.signal)
            case orders.ClearTree():
                self._clearing = Clearing(boottime_ns(), self._cgroup, self._start.cookie)
                self._clear(self._clearing)
            case orders.StoreStop():
                self._store_stop(order)
            case orders.Tell():
                self._tell(order)
            case orders.Finish():
                self._finish = order
            case _:
                raise AssertionError(f"an order out of place: {order}")

    # ---- a step

    def _fork(self, step: int) -> None:
        start = self._start.steps[step]
        env = {**start.env, tree.COOKIE_VARIABLE: self._start.cookie}
        if self._run_socket is not None:
            env["BANKSMAN_SOCKET"] = self._run_socket.path
        instruction = Instruction(
            argv=start.argv, env=env, cwd=start.cwd, rlimits=start.rlimits, has_stdin=start.stdin is not None,
            merge_output=self._start.merge_output,
        )  # fmt: skip
        try:
            starter, self._starter = self._starter or self._fork_starter(), None
        except OSError as error:
            self._hear(ForkFailed(message=f"no process could be forked: {error.strerror}"))
            return
        self._cgroup, self._child_pid, self._child_start_time = starter.cgroup, starter.pid, starter.start_time
        self._streams = streams = starter.streams
        streams.instruct(
            instruction.encode(), stdin=start.stdin, merge_output=self._start.merge_output, needles=self._needles
        )
        streams.watch(self._loop, self._write, lambda: self._hear(PipesClosed()), self._on_status)
        self._hear(ChildForked(pid=starter.pid))

    def _fork_starter(self) -> Starter:
        return Starter.fork(use_cgroups=self._place.use_cgroups, oom_score=self._place.oom_score)

    def _drop_cgroup(self) -> None:
        self._meter.add_step(self._cgroup)
        if self._cgroup is not None:
            self._cgroup.remove()
            self._cgroup = None

    def _store_identity(self, order: orders.StoreIdentity) -> None:
        cgroup = None if self._cgroup is None else self._cgroup.path
        run_socket = None if self._run_socket is None else self._run_socket.path
        try:
            identity = self._place.identity(
                self._start, order.pid, self._child_start_time, cgroup=cgroup, run_socket=run_socket
            )
            if order.step == 0:
                self._ground.store_identity(identity)
            else:
                files.write_once(".", attempt_files.identity_name(order.step), identity)
        except OSError as error:
            self._hear(IdentityStored(stored=False, message=f"the attempt's identity could not be stored: {error}"))
            return
        self._hear(IdentityStored())

    def _on_status(self, report: bytes) -> None:
        if not report:
            self._hear(Executed())
            return
        failure = parse_report(report)
        self._hear(ExecFailed(errno=failure.errno, message=self._words.masked(failure.message)))

    def _write(self, kind: int, data: bytes | memoryview) -> None:
        at = now()
        self._spool.append(kind, self._state.step, data, wall_ns=at.wall_ns, now_ns=at.boottime_ns)
        self._active()

    def _active(self) -> None:
        if self._start.idle_timeout_s is not None:
            self._hear(Active())

    def _say(self, text: str) -> None:
        """A line of our own in the log."""
        masker = Masker(self._needles)
        line = b"".join((masker.feed(f"banksman: {text}\n".encode("utf-8", "replace")), masker.finish()))
        at = now()
        self._spool.append(SYSTEM, self._state.step, line, wall_ns=at.wall_ns, now_ns=at.boottime_ns)

    def _tell(self, order: orders.Tell) -> None:
        event = order.event
        last = False
        if isinstance(event, StepEnded):
            last = event.record.index == len(self._start.steps) - 1  # then the exit record follows, and holds it
            self._drop_cgroup()
            if event.record.spawn_message:
                self._say(event.record.spawn_message)
        self.peers.tell(event, with_next=last)

    # ---- ends

    def _on_signals(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers:
            plan = self._state.plan
            self._hear(StopRequested(reason=Reason.RUNNER_SHUTDOWN, signal=plan.stop_signal, grace_ns=plan.grace_ns))
        self._reap()

    def _reap(self) -> None:
        for ended in tree.reap():
            self._meter.add_child(ended)
            # Not the decisions' pid: a child that was forked ahead may have ended before they have heard of it.
            if ended.pid == self._child_pid and not self._state.leader_gone:
                oom = ended.signal == signal.SIGKILL and self._cgroup is not None and self._cgroup.oom_kills() > 0
                self._hear(LeaderExited(exit_code=ended.exit_code, signal=ended.signal, oom_killed=oom))
        drains = self._state.leader_gone or any(isinstance(event, LeaderExited) for event in self._waiting)
        if drains and self._clearing is None and not tree.has_children():
            self._hear(TreeEmpty())

    def _clear(self, clearing: Clearing) -> None:
        """One round of killing; when it is over, the pipes are emptied and closed."""
        self._reap()
        clearing.round()
        self._reap()
        cleared = clearing.outcome(boottime_ns())
        if cleared is None:
            return
        self._clearing = None
        if self._streams is not None:
            report = self._streams.last_report()
            if report is not None:
                self._on_status(report)
            self._streams.close(self._loop, self._write)
            self._streams = None
        self._hear(cleared)

    def _store_stop(self, order: orders.StoreStop) -> None:
        self._say(f"stopping: {stop_words(order.reason)}")
        body: JsonObject = {"reason": order.reason.value, "at_ns": order.at_ns}
        with contextlib.suppress(OSError):  # only for whoever finds a dead shim: a full disk must not hinder a stop
            files.write_once(".", "stop", files.encode_json(body))

    def _leave(self, finish: orders.Finish) -> None:
        """Spool, exit record, directory: synced in this order. Then the last words."""
        self.abandon()
        if self._cgroup is not None:
            self._drop_cgroup()
        result_error = self._words.take_file(self._start.result_path)
        if result_error:
            self._say(result_error)
        must_be_valid = self._start.fail_on_invalid_result and result_error
        verdict = failed_validation(finish.verdict, result_error) if must_be_valid else finish.verdict
        offset, digest, gaps = self._spool.finish()
        record = attempt_files.exit_record(
            verdict,
            self._start,
            offset=offset,
            digest=digest,
            gaps=gaps,
            usage=self._meter.usage(),
            result=self._words.result,
            result_error=result_error,
            progress=self._words.progress,
        )
        attempt_files.store_exit(attempt_files.encode_record(record))
        self.peers.tell(Exited(record=record))
        deadline_ns = boottime_ns() + int(LAST_WORDS_S * NS)
        while self.peers.have_unsent and boottime_ns() < deadline_ns:
            self._loop.turn(0.1)
        self.peers.close()
        if self._run_socket is not None:
            self._run_socket.close()
            attempt_files.remove_socket(self._run_socket.path)
        attempt_files.remove_socket(protocol.CONTROL_SOCKET)

    # ---- what the run says

    def _progress(self, fraction: float | None, stage: str, note: str) -> None:
        self._active()
        self._words.advance(fraction, stage, note, time.time_ns())
        self._relay_progress()

    def _relay_progress(self) -> None:
        """Tell the newest, a few times a second at most: the run may say it as often as it likes."""
        newest = self._words.untold(boottime_ns())
        if newest is not None:
            self.peers.tell(newest)

    def _take_result(self, text: str) -> None:
        self._active()
        self.peers.tell(Result(json=self._words.take(text)))
