"""A shim of the simulation: the product's decisions over simulated children, a simulated spool and a simulated lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from runner_agent.shim import attempt_files, orders
from runner_agent.shim.decisions import decide, next_wake_ns
from runner_agent.shim.digest import LogDigest
from runner_agent.shim.messages import AttemptStart, Exited, ShimEvent, Spooled, Usage
from runner_agent.shim.spool_format import STDOUT, SYSTEM
from runner_agent.shim.states import (
    Active,
    Begun,
    ChildForked,
    Event,
    ExecFailed,
    Executed,
    IdentityStored,
    Instant,
    LeaderExited,
    PipesClosed,
    Renewed,
    StopRequested,
    Ticked,
    TreeCleared,
    TreeEmpty,
    initial_state,
)
from runner_agent.shim.verdict import stop_words
from tests.simulation.host import Host, Identity, RunDir, SpoolRecord
from tests.simulation.load import Play, Program
from tests.simulation.loop import Handle, Life
from tests.simulation.truth import Key, Process

Listener = Callable[[ShimEvent], None]


class SimShim:
    """One attempt, from the lock to the exit record."""

    def __init__(self, host: Host, directory: RunDir, program: Program) -> None:
        self.host, self.directory, self.program = host, directory, program
        self.key: Key = directory.key
        self.pid = host.new_pid()
        self.life = Life(host.loop, f"{host.name} shim {self.key.run_id[-4:]}.{self.key.epoch & 0xFFFF}")
        self.life.on_death.append(lambda: host.shim_died(self))
        self.overslept = False
        self.listening = False
        self.listeners: list[Listener] = []
        self.history: list[ShimEvent] = []
        self._spooled_told = 0
        self._tree: list[Process] = []
        self._play: Play | None = None
        self._ended: tuple[int | None, int | None] | None = None
        self._wake: Handle | None = None
        self._dirty = False
        if host.rng.random() < host.doom:
            host.fault("shim killed")
            self.life.arm(host.rng.randrange(1, 14))
        self.locked = directory.lock is None
        if self.locked:
            directory.lock = self
            host.shims[self.key] = self

    # -- before the first step

    def leave_unused(self) -> None:
        """No usable start came."""
        self._leave()

    def begin(self, start: AttemptStart) -> str:
        """Empty when it begins, else the code of its refusal."""
        self._start = start
        self.state = initial_state(start)
        files = self.directory.files
        used = any(name in files for name in ("identity", "exit"))
        begun = Begun(locked=self.locked, tombstone="tombstone" in files, used=used)
        self.state, ordered = decide(self.state, begun, self._now())
        refusal = next((order for order in ordered if isinstance(order, orders.Refuse)), None)
        if refusal is not None:
            self._leave()
            return refusal.code
        self.directory.write("spec", True, sync=False)
        self.life.point("shim: spec stored")
        self.listening = True
        self.life.later(0.0, self._obey, ordered)
        return ""

    # -- the loop

    def hear(self, event: Event) -> None:
        """Something happened."""
        self.state, ordered = decide(self.state, event, self._now())
        self._obey(ordered)
        self._arm()

    def oversleeps(self) -> bool:
        """Frozen, and its loss deadline has passed meanwhile."""
        deadline_ns = self.state.loss_deadline_ns if self.listening else None
        return self.life.frozen and deadline_ns is not None and self.host.clock.boottime_ns() >= deadline_ns

    def thaw(self) -> None:
        self.overslept = self.overslept or self.oversleeps()
        self.life.thaw()

    def _arm(self) -> None:
        wake = next_wake_ns(self.state)
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if wake is not None:
            delay_s = self.host.clock.delay_s(wake) + self.host.rng.uniform(0.0, 0.02)
            self._wake = self.life.later(delay_s, self.hear, Ticked())

    def _now(self) -> Instant:
        return Instant(boottime_ns=self.host.clock.boottime_ns(), wall_ns=self.host.clock.wall_ns())

    def _obey(self, ordered: tuple[orders.Output, ...]) -> None:
        for order in ordered:
            self.life.point(f"shim {type(order).__name__}")
            self._carry_out(order)

    def _carry_out(self, order: orders.Output) -> None:
        rng = self.host.rng
        match order:
            case orders.ForkChild():
                self._play = self.program.play(order.step)
                self._tree = []
                self.life.later(0.001, self.hear, ChildForked(pid=self.host.new_pid()))
            case orders.StoreIdentity():
                self.life.later(rng.uniform(0.0005, 0.02), self._store_identity, order.step)
            case orders.ReleaseChild():
                self._release()
            case orders.AbandonChild():
                self._ended = (None, 9)
                self.life.later(0.001, self._reap)
            case orders.SignalTree():
                self._signal()
            case orders.ClearTree():
                self.life.later(rng.uniform(0.001, 0.05), self._clear)
            case orders.StoreStop():
                self._say(f"stopping: {stop_words(order.reason)}")
                self.directory.write("stop", order.reason)
            case orders.Tell():
                self._tell(order.event)
            case orders.Finish():
                self.life.later(rng.uniform(0.001, 0.05), self._finish, order)
            case orders.Refuse():
                raise AssertionError("refusals come first")
            case _:
                assert_never(order)

    def _store_identity(self, step: int) -> None:
        identity = Identity(boot_id=self.host.boot_id, shim_pid=self.pid)
        self.directory.write(attempt_files.identity_name(step), identity)
        self.life.point("shim: identity stored")
        self.hear(IdentityStored())

    # -- children

    def _release(self) -> None:
        """From here on the child is on its way to exec, whatever becomes of the shim, unless it is killed."""
        play, loop = self._play, self.host.loop
        assert play is not None
        if play.errno:
            self.life.later(0.001, self.hear, ExecFailed(errno=play.errno, message="it cannot be executed"))
            self._ended = (127, None)
            self.life.later(0.002, self._reap)
            return
        leader = Process(self.key, self.host, self.state.step, True, play.stubborn, True, self.pid)
        self._tree = [leader]
        self.host.processes.append(leader)
        loop.schedule(loop.now + self.host.rng.uniform(0.0005, 0.01), self._execute, (leader, play), loop.god)

    def _execute(self, leader: Process, play: Play) -> None:
        if not leader.lives:
            return
        self.host.truth.started(leader, self.host.loop.now)
        self._perform(leader, play)
        if self.life.alive:
            self.life.later(0.0005, self.hear, Executed())

    def _perform(self, leader: Process, play: Play) -> None:
        """The child acts on its own, shim or no shim: its steps are the world's."""
        loop = self.host.loop
        for at_s, size in play.output:
            loop.schedule(loop.now + at_s, self._child_writes, (leader, size), loop.god)
        for at_s, stubborn, cookie, holds, lasts_s in play.stragglers:
            args = (leader, stubborn, cookie, holds, lasts_s)
            loop.schedule(loop.now + at_s, self._child_forks, args, loop.god)
        if play.lasts_s is not None:
            loop.schedule(loop.now + play.lasts_s, self._child_ends, (leader, play.code, None), loop.god)

    def _child_writes(self, process: Process, size: int) -> None:
        if not process.lives:
            return
        written = self.host.truth.log(self.key)
        line = f"{self.key.run_id[-6:]} {self.key.epoch & 0xFFFF} {process.step} {len(written.children)}\n".encode()
        data = (line * (size // len(line) + 1))[:size]
        written.children += data
        if self.life.alive:
            self.life.later(0.0002, self._read, data)
        else:
            written.lost = True

    def _child_forks(self, leader: Process, stubborn: bool, cookie: bool, holds: bool, lasts_s: float) -> None:
        if not leader.lives:
            return
        straggler = Process(
            self.key, self.host, leader.step, False, stubborn, cookie, self.pid, holds_pipe=holds, excuse=leader.excuse
        )
        self._tree.append(straggler)
        self.host.run(straggler)
        loop = self.host.loop
        loop.schedule(loop.now + lasts_s, self._child_ends, (straggler, 0, None), loop.god)

    def _child_ends(self, process: Process, code: int | None, signal: int | None) -> None:
        if not process.lives:
            return
        self.host.end(process)
        if not self.life.alive:
            return
        if process.leader:
            self._ended = (code, signal)
            self.life.later(0.0005, self._reap)
        self.life.later(0.001, self._look_at_tree, process.step)

    def _reap(self) -> None:
        """Tell of the leader's end, once."""
        ended, self._ended = self._ended, None
        if ended is not None:
            self.hear(LeaderExited(exit_code=ended[0], signal=ended[1]))
            self._look_at_tree(self.state.step)

    def _look_at_tree(self, step: int) -> None:
        """What wait4 and the pipes say."""
        if not self.state.leader_gone or step != self.state.step:
            return
        left = [each for each in self._tree if each.lives]
        if not any(each.holds_pipe for each in left):
            self.hear(PipesClosed())
        if not left:
            self.hear(TreeEmpty())

    def _signal(self) -> None:
        loop = self.host.loop
        for process in self._tree:
            if process.lives and not process.stubborn:
                after_s = self.host.rng.uniform(0.001, 1.0)
                loop.schedule(loop.now + after_s, self._child_ends, (process, None, 15), loop.god)

    def _clear(self) -> None:
        living = [each for each in self._tree if each.lives]
        if any(each.leader for each in living):
            self._ended = (None, 9)
        killed = self.host.kill(living)
        if self._ended is not None:
            (code, signal), self._ended = self._ended, None
            self.state, ordered = decide(self.state, LeaderExited(exit_code=code, signal=signal), self._now())
            self._obey(ordered)
        self.hear(TreeCleared(killed=killed, empty=True))

    # -- log

    def _read(self, data: bytes) -> None:
        written = self.host.truth.log(self.key)
        written.own.append((len(written.taken), len(data)))
        self._append(data, STDOUT)
        if self._start.idle_timeout_s is not None:
            self.hear(Active())

    def _say(self, text: str) -> None:
        self._append(f"banksman: {text}\n".encode(), SYSTEM)

    def _append(self, data: bytes, kind: int) -> None:
        directory = self.directory
        self.host.truth.log(self.key).taken += data
        directory.spool.append(SpoolRecord(directory.end, data, kind, self.state.step, self.host.clock.wall_ns()))
        directory.end += len(data)
        if not self._dirty:
            self._dirty = True
            self.life.later(1.0, self._sync)
            self.life.later(0.002, self._tell_spooled)

    def _sync(self) -> None:
        self._dirty = False
        for record in reversed(self.directory.spool):
            if record.synced:
                break
            record.synced = True
        self._tell_spooled()

    def _tell_spooled(self) -> None:
        if self.directory.end > self._spooled_told:
            self._spooled_told = self.directory.end
            self._tell(Spooled(offset=self._spooled_told), keep=False)

    # -- telling

    def _tell(self, event: ShimEvent, *, keep: bool = True) -> None:
        if keep:
            self.history.append(event)
        for listener in self.listeners:
            self.life.loop.schedule(self.life.loop.now + 0.0005, listener, (event,), self.life.loop.god)

    def attach(self, listener: Listener) -> None:
        """An agent comes: it hears everything from the first event on."""
        self.listeners.append(listener)
        for event in (*self.history, Spooled(offset=self.directory.end)):
            self.life.loop.schedule(self.life.loop.now + 0.0005, listener, (event,), self.life.loop.god)

    def stop(self, request: StopRequested) -> None:
        self.life.later(0.0005, self.hear, request)

    def renew(self, deadline_ns: int) -> None:
        self.life.later(0.0005, self.hear, Renewed(loss_deadline_ns=deadline_ns))

    # -- the end

    def _finish(self, order: orders.Finish) -> None:
        """Spool, exit record: synced in this order. Then the last words."""
        self._sync()
        self.life.point("shim: spool synced")
        digest = LogDigest()
        for record in self.directory.spool:
            digest.data(record.data)
        exit_record = attempt_files.exit_record(
            order.verdict,
            self._start,
            offset=self.directory.end,
            digest=digest.hex(),
            gaps=(),
            usage=Usage(source="none"),
            result=None,
        )
        if self.host.full:
            self.life.later(1.0, self._finish, order)
            return
        self.directory.write("exit", exit_record)
        self.life.point("shim: exit stored")
        self._tell(Exited(record=exit_record))
        self.life.later(0.005, self._leave)

    def _leave(self) -> None:
        self.listening = False
        if self.directory.lock is self:
            self.directory.lock = None
        if self.host.shims.get(self.key) is self:
            del self.host.shims[self.key]
        self.life.on_death.clear()
        self.life.kill()
