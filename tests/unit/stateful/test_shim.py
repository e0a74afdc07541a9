"""The shim's decisions under any sequence of events: what is never executed, never claimed, never said twice."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runner_agent.shim.decisions import decide, next_wake_ns, sleep_s
from runner_agent.shim.messages import AttemptStart, Outcome, Reason, Started, StepEnded, StepStart
from runner_agent.shim.orders import (
    AbandonChild,
    ClearTree,
    Finish,
    ForkChild,
    Refuse,
    ReleaseChild,
    SignalTree,
    StoreIdentity,
    Tell,
)
from runner_agent.shim.states import (
    NS,
    Active,
    Begun,
    ChildForked,
    Event,
    ExecFailed,
    Executed,
    ForkFailed,
    IdentityStored,
    Instant,
    LeaderExited,
    PipesClosed,
    Renewed,
    Stage,
    StopRequested,
    Ticked,
    TreeCleared,
    TreeEmpty,
    initial_state,
)

LOSS_S = 60.0
seconds = st.sampled_from((0.0, 0.01, 1.0, 2.5, 12.0, 30.0, 61.0))
REASONS = st.sampled_from((Reason.USER_CANCEL, Reason.RUNNER_SHUTDOWN, Reason.DEADLINE_PASSED))


class Shim(RuleBasedStateMachine):
    """One attempt; the machine is its kernel: children exist, wait, run and end as they really could."""

    @initialize(
        steps=st.integers(1, 3),
        always=st.booleans(),
        timeout=st.sampled_from((None, 20.0)),
        loss=st.sampled_from((LOSS_S, None)),
        locked=st.sampled_from((True, True, True, False)),
        tombstone=st.sampled_from((False, False, False, True)),
    )
    def begin(
        self, steps: int, always: bool, timeout: float | None, loss: float | None, locked: bool, tombstone: bool
    ) -> None:
        self.now = Instant(boottime_ns=1_000 * NS, wall_ns=5_000 * NS)
        plan = tuple(StepStart(argv=("x",), env={}, cwd="/", always=always and at > 0) for at in range(steps))
        start = AttemptStart(
            run_id="r", epoch=1, steps=plan, cookie="c", run_timeout_s=timeout,
            loss_deadline_boottime_ns=None if loss is None else self.now.boottime_ns + int(loss * NS),
        )  # fmt: skip
        self.state = initial_state(start)
        self.loss_ns = start.loss_deadline_boottime_ns
        self.may_start = locked and not tombstone
        # What the kernel knows of the present step's processes.
        self.leader, self.others, self.barrier, self.identity = "none", 0, False, False
        self.clearing = False
        self.forked: list[int] = []
        self.executed: list[int] = []
        self.ended: list[int] = []
        self.finish: list[Finish] = []
        self.stops: list[Reason] = []
        self.hear(Begun(locked=locked, tombstone=tombstone, used=False))

    def hear(self, event: Event) -> None:
        over = bool(self.finish)
        self.state, orders = decide(self.state, event, self.now)
        assert not (over and orders), "an order after the end"
        for order in orders:
            match order:
                case Refuse():
                    assert not self.may_start
                case ForkChild():
                    assert self.may_start, "forked without the lock, or on a tombstone"
                    assert self.leader in ("none", "gone"), "a step begins while the one before it lives"
                    assert self.others == 0, "a step begins in the tree of the one before it"
                    assert order.step not in self.forked, "a step was forked twice"
                    assert not self.stops, "a step begins after a stop"
                    assert not self._lost(), "forked after the loss deadline"
                    self.forked.append(order.step)
                    self.leader = "none"
                case StoreIdentity():
                    self.leader, self.identity = "waits", False
                case ReleaseChild():
                    assert self.identity, "released before its identity is on disk"
                    assert not self._lost(), "executed after the loss deadline"
                    assert not self.stops, "executed after a stop"
                    self.barrier = True
                case AbandonChild():
                    assert not self.barrier
                    self.leader = "leaves"
                case SignalTree():
                    assert self.executed, "signalled before anything was executed"
                case ClearTree():
                    self.clearing = True
                case Finish():
                    self._finished(order)
                case Tell():
                    self._told(order)
                case _:
                    pass
        if self.state.stop is not None and not self.stops:
            self.stops.append(self.state.stop.reason)

    def _lost(self) -> bool:
        return self.loss_ns is not None and self.now.boottime_ns >= self.loss_ns

    def _told(self, order: Tell) -> None:
        if isinstance(order.event, Started):
            assert self.barrier, "told as started before it was released"
        if isinstance(order.event, StepEnded):
            assert order.event.record.index not in self.ended, "a step ended twice"
            self.ended.append(order.event.record.index)

    def _finished(self, order: Finish) -> None:
        assert not self.finish, "two exit records"
        assert not self.clearing, "the record comes before the tree is cleared"
        verdict = order.verdict
        left = self.leader not in ("none", "gone") or self.others > 0
        assert not (verdict.tree_empty and left), "called empty while a process lives"
        if verdict.outcome is Outcome.NOT_STARTED:
            assert not self.executed, "called not started, and something was executed"
        if verdict.outcome is Outcome.ENDED_WELL:
            assert [record.exit_code for record in verdict.steps] == [0] * len(self.state.plan.steps)
        self.finish.append(order)

    # -- what the kernel and the agent do ------------------------------------------------------------------------------

    @precondition(lambda self: self.state.stage is Stage.FORKING)
    @rule(works=st.sampled_from((True, True, True, True, False)))
    def fork(self, works: bool) -> None:
        self.barrier = False
        self.hear(ChildForked(pid=100 + len(self.forked)) if works else ForkFailed(message="no"))

    @precondition(lambda self: self.leader == "waits" and not self.identity and not self.barrier)
    @rule(works=st.sampled_from((True, True, True, True, False)))
    def store_the_identity(self, works: bool) -> None:
        self.identity = works
        self.hear(IdentityStored(stored=works, message="" if works else "disk"))

    @precondition(lambda self: self.leader == "waits" and self.barrier)
    @rule(works=st.sampled_from((True, True, True, False)))
    def execute(self, works: bool) -> None:
        self.leader = "runs" if works else "failed"
        if works:
            self.executed.append(self.forked[-1])
        self.hear(Executed() if works else ExecFailed(errno=2, message="no such file"))

    @precondition(lambda self: self.leader == "runs" and self.others < 2)
    @rule()
    def fork_another(self) -> None:
        self.others += 1

    @precondition(lambda self: self.leader in ("runs", "failed", "leaves"))
    @rule(code=st.sampled_from((0, 0, 1)))
    def leader_exits(self, code: int) -> None:
        self.leader = "gone"
        self.hear(LeaderExited(exit_code=code, signal=None))

    @precondition(lambda self: self.leader == "gone" and self.others > 0)
    @rule()
    def another_exits(self) -> None:
        self.others -= 1

    @precondition(lambda self: self.leader == "gone" and self.others == 0)
    @rule()
    def all_is_quiet(self) -> None:
        self.hear(TreeEmpty())
        self.hear(PipesClosed())

    @precondition(lambda self: self.clearing)
    @rule(proven=st.sampled_from((True, True, True, False)))
    def cleared(self, proven: bool) -> None:
        killed = self.others + (self.leader not in ("none", "gone"))
        if proven:
            if self.leader not in ("none", "gone"):
                self.leader = "gone"
                self.hear(LeaderExited(exit_code=None, signal=9))
            self.leader, self.others = "none", 0
        self.clearing = False
        self.hear(TreeCleared(killed=killed, empty=proven))

    @rule(reason=REASONS, grace=st.sampled_from((0, 10)))
    def stop(self, reason: Reason, grace: int) -> None:
        self.hear(StopRequested(reason=reason, signal=15, grace_ns=grace * NS))

    @precondition(lambda self: self.loss_ns is not None)
    @rule()
    def renew(self) -> None:
        self.loss_ns = self.now.boottime_ns + int(LOSS_S * NS)
        self.hear(Renewed(loss_deadline_ns=self.loss_ns))

    @rule(by=seconds, wall=st.sampled_from((0, -3_600, 3_600)))
    def time_passes(self, by: float, wall: int) -> None:
        gone = int(by * NS)
        self.now = Instant(boottime_ns=self.now.boottime_ns + gone, wall_ns=self.now.wall_ns + gone + wall * NS)
        self.hear(Ticked())

    @rule()
    def writes(self) -> None:
        self.hear(Active())

    # -- what must always hold ---------------------------------------------------------------------------------------

    @invariant()
    def the_first_stop_stays(self) -> None:
        if self.state.stop is not None:
            assert self.state.stop.reason is self.stops[0]

    @invariant()
    def no_deadline_is_slept_through(self) -> None:
        wake = next_wake_ns(self.state)
        if wake is not None:
            assert sleep_s(self.state, self.now.boottime_ns) <= max(1.0, min(30.0, (wake - self.now.boottime_ns) / NS))

    @invariant()
    def steps_run_in_order(self) -> None:
        assert self.forked == sorted(self.forked)
        assert self.executed == sorted(set(self.executed))


TestShim = Shim.TestCase
TestShim.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
