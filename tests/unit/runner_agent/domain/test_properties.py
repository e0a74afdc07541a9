"""Whatever comes, in whatever order: what the agent's decisions never do."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from runner_agent.domain.events import (
    Event,
    Exited,
    Forgotten,
    HandoverRequested,
    JournalDone,
    JournalFailed,
    LeaveRequested,
    Prepared,
    PrepareFailed,
    Quarantined,
    Received,
    SessionClosed,
    SessionOpened,
    ShimUnknown,
    Spooled,
    Started,
    StopMoved,
    Tick,
)
from runner_agent.domain.exit_report import Outcome, not_started
from runner_agent.domain.held import Phase
from runner_agent.domain.ids import AttemptKey
from runner_agent.domain.messages import (
    Drain,
    Fenced,
    Goodbye,
    HeartbeatAck,
    Hello,
    LogAck,
    LogRewind,
    Offer,
    OfferReply,
    Release,
    Resume,
    StopPhase,
    VerdictKind,
    Welcome,
    Withdraw,
)
from runner_agent.domain.outputs import EndUnstarted, Forget, Fork, JournalAccept, Leave, Output, Prepare, Send
from runner_agent.domain.reason import Reason
from runner_agent.domain.reconciler import decide, next_wake
from runner_agent.domain.state import AgentState, SessionPhase, initial_state

from .core import IDENTITY, S, assignment, key, report, stop, verdict

KEYS = [key("a", 1), key("a", 2), key("b", 1)]
keys = st.sampled_from(KEYS)


def verdicts() -> st.SearchStrategy[object]:
    def make(which: AttemptKey, kind: VerdictKind, renewed: bool, stored: bool, offset: int) -> object:
        run, epoch = which.run_id, which.lease_epoch
        given = assignment(run, epoch, lost_after_s=20.0) if kind is VerdictKind.START else None
        order = stop(run, epoch) if kind in (VerdictKind.STOP, VerdictKind.FENCED) else None
        return verdict(
            kind, run, epoch, assignment=given, stop=order, renewed=renewed, exit_stored=stored, resume_offset=offset
        )

    return st.builds(make, keys, st.sampled_from(VerdictKind), st.booleans(), st.booleans(), st.integers(0, 20))


def server_messages() -> st.SearchStrategy[object]:
    several = st.lists(verdicts(), max_size=3).map(tuple)
    return st.one_of(
        st.builds(lambda v: _welcome(v), several),
        st.builds(lambda seq, v: HeartbeatAck(seq=seq, next_interval_s=5.0, verdicts=v), st.integers(0, 5), several),
        st.builds(lambda k, n: Offer(key=k, slots=n, summary="", deadline_s=10.0), keys, st.integers(1, 2)),
        st.builds(lambda k: Withdraw(key=k), keys),
        st.builds(lambda k: assignment(k.run_id, k.lease_epoch, lost_after_s=20.0), keys),
        st.builds(lambda k: stop(k.run_id, k.lease_epoch), keys),
        st.builds(lambda k: Fenced(key=k, current_lease_epoch=9), keys),
        st.builds(lambda k: Release(key=k), keys),
        st.builds(lambda k, o: LogAck(key=k, committed_offset=o, window_bytes=9), keys, st.integers(0, 20)),
        st.builds(lambda k, o: LogRewind(key=k, expected_offset=o), keys, st.integers(0, 20)),
        st.just(Drain()),
        st.just(Resume()),
        st.just(Goodbye(reason="x", reconnect_after_s=1.0, jitter_s=1.0)),
    )


def _welcome(given: object) -> Welcome:
    return Welcome(
        session_epoch=1, protocol=1, heartbeat_interval_s=5.0, lease_s=15.0, log_window_bytes=1, max_chunk_bytes=1,
        verdicts=given,  # type: ignore[arg-type]
    )  # fmt: skip


class Host:
    """What the host may truthfully tell: answers only to what was asked, each at most once."""

    def __init__(self) -> None:
        self.pending: list[Event] = []
        self.forked: set[AttemptKey] = set()

    def asked(self, outputs: tuple[Output, ...]) -> None:
        for output in outputs:
            match output:
                case JournalAccept():
                    self.pending += [JournalDone(key=output.key), JournalFailed(key=output.key, error="x")]
                case Prepare():
                    failed = not_started(Reason.NOT_STARTED, "x")
                    self.pending += [Prepared(key=output.key), PrepareFailed(key=output.key, report=failed)]
                case Fork():
                    self.pending += [
                        Started(key=output.key, pid=1, at_ns=1),
                        StopMoved(key=output.key, phase=StopPhase.SIGNALLED, survivors=0, at_ns=1),
                        Spooled(key=output.key, offset=10),
                        ShimUnknown(key=output.key),
                        Exited(key=output.key, report=report()),
                        Exited(key=output.key, report=report(Outcome.SHIM_DIED)),
                    ]
                case EndUnstarted():
                    self.pending.append(Exited(key=output.key, report=output.report))
                case Forget():
                    self.pending.append(Forgotten(key=output.key))
                case _:
                    pass


moves = st.lists(
    st.one_of(
        st.tuples(st.just("server"), server_messages()),
        st.tuples(st.just("host"), st.integers(0, 30)),
        st.tuples(st.just("time"), st.integers(0, 12)),
        st.tuples(st.just("open"), st.none()),
        st.tuples(st.just("close"), st.none()),
        st.tuples(st.just("quarantine"), keys),
        st.tuples(st.just("leave"), st.none()),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(moves)
def test_invariants(steps: list[tuple[str, object]]) -> None:
    state, now, host = initial_state(IDENTITY, ()), 1_000 * S, Host()
    journalled: set[AttemptKey] = set()
    forks: list[AttemptKey] = []
    steps = [("open", None), ("server", _welcome(())), *steps]
    for move, what in steps:
        event: Event
        match move:
            case "server":
                event = Received(message=what)  # type: ignore[arg-type]
            case "host":
                if not host.pending:
                    continue
                event = host.pending.pop(int(what) % len(host.pending))  # type: ignore[call-overload]
            case "time":
                now += int(what) * S  # type: ignore[call-overload]
                event = Tick(load=0.0, disk_free_bytes=1 << 40)
            case "open":
                event = SessionOpened()
            case "close":
                event = SessionClosed()
            case "quarantine":
                event = Quarantined(key=what, message="x")  # type: ignore[arg-type]
            case _:
                event = LeaveRequested()
        before = state
        state, outputs = decide(state, event, now)
        host.asked(outputs)
        _check(before, state, event, outputs, now, journalled, forks)


def _check(
    before: AgentState,
    after: AgentState,
    event: Event,
    outputs: tuple[Output, ...],
    now: int,
    journalled: set[AttemptKey],
    forks: list[AttemptKey],
) -> None:
    if isinstance(event, JournalDone):
        journalled.add(event.key)
    for output in outputs:
        if isinstance(output, Send) and isinstance(output.message, Hello):
            assert isinstance(event, SessionOpened)
        elif isinstance(output, Send):
            assert SessionPhase.WELCOMED in (before.session.phase, after.session.phase), "no word before Welcome"
            if isinstance(output.message, OfferReply) and output.message.reject is None:
                assert output.message.key in journalled, "accepted before it was on disk"
        elif isinstance(output, Fork):
            assert output.key not in forks, "forked twice"
            assert output.key in journalled
            assert output.loss_deadline_boot_ns is not None
            assert now < output.loss_deadline_boot_ns, "forked after the loss deadline"
            forks.append(output.key)
        elif isinstance(output, Forget):
            held = before.held[output.key]
            assert held.phase in (Phase.ACCEPTING, Phase.ACCEPTED, Phase.UNSTARTED, Phase.EXITED), held.phase
        elif isinstance(output, Leave):
            living = {Phase.FORKING, Phase.RUNNING, Phase.STOPPING, Phase.UNKNOWN_SHIM}
            assert not any(held.phase in living for held in after.held.values())
    for attempt, held in before.held.items():
        if attempt in forks and attempt not in after.held:
            assert held.exit is not None or held.phase is Phase.QUARANTINED, "forgotten without its end"
    wake = next_wake(after)
    assert wake is None or wake > 0


def test_a_handover_is_final() -> None:
    state = initial_state(IDENTITY, ())
    state, _ = decide(state, HandoverRequested(), 1)
    state, outputs = decide(state, LeaveRequested(), 2)
    assert [type(output) for output in outputs] == [Leave]
