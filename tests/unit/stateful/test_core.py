"""Whatever happens to the server, in whatever order: submits, sessions, logs, cancels, clocks, cuts and crashes.

The machine plays honest runners by their disks, cloned and foreign ones by statements about others' attempts, and looks
at the database and the stored logs after every step.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from control_plane.domain.attempt import ATTEMPT_TERMINAL, Attempt
from control_plane.domain.errors import AlreadyExists, FailedPrecondition
from control_plane.domain.history import TERMINAL_EVENT_TYPES
from control_plane.domain.ids import AttemptKey, Holder, RunId
from control_plane.domain.placement import Match
from control_plane.domain.run import RUN_TERMINAL, Run, RunState
from control_plane.domain.session import (
    AttemptExited,
    AttemptStarted,
    ExitOutcome,
    HeldPhase,
    Offer,
    OfferReply,
    Verdict,
    VerdictKind,
)
from control_plane.domain.spec import OnLost
from control_plane.domain.stops import CancelOrder
from control_plane.lifecycle import attempts, clocks, reports, runs
from tests.fakes.cases import exit_record, spec
from tests.unit.stateful.stage import Host, OnDisk, Stage

SPECS = (
    spec(),
    spec(max_attempts=3, retry_on=("failed", "timeout")),
    spec(on_lost=OnLost.RETRY, lost_after_s=60.0, max_attempts=2),
)
REQUESTS = ("", "a", "b", "c")
LIVE = (HeldPhase.RUNNING, HeldPhase.STOPPING)
OUTCOMES = st.sampled_from(list(ExitOutcome))
numbers = st.integers(0, 1_000)


def _live(machine: Core) -> bool:
    """Some host has a process of ours."""
    return any(held.phase in LIVE for host in machine.stage.hosts for held in host.disk.values())


def _held(machine: Core) -> bool:
    return any(host.disk for host in machine.stage.hosts)


class Core(RuleBasedStateMachine):
    """One server, two runners, and everything that can come between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage()
        self.world = self.stage.world
        self.runs: list[RunId] = []
        self.by_request: dict[str, tuple[int, RunId]] = {}
        self.cancelled: set[RunId] = set()
        self.before: dict[RunId, tuple[Run, dict[int, Attempt]]] = {}
        self.served: dict[AttemptKey, bytes] = {}
        self.proven: dict[AttemptKey, bool] = {}

    def teardown(self) -> None:
        self.stage.close()

    @initialize(first=st.integers(0, len(SPECS) - 1), second=st.integers(0, len(SPECS) - 1))
    def two_runs(self, first: int, second: int) -> None:
        self.submit("", first)
        self.submit("a", second)
        self.go_on(0, 0, 3, ExitOutcome.ENDED_WELL)

    # -- users -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.runs) < 4)
    @rule(request=st.sampled_from(REQUESTS), which=st.integers(0, len(SPECS) - 1))
    def submit(self, request: str, which: int) -> None:
        try:
            run = self.stage.do(self.world.submit(SPECS[which], request_id=request))
        except AlreadyExists:
            assert self.by_request[request][0] != which, "the same request must give the same run"
            return
        if request in self.by_request:
            assert self.by_request[request] == (which, run.id), "the same request gave another run"
            return
        if request:
            self.by_request[request] = (which, run.id)
        self.runs.append(run.id)

    @precondition(lambda self: self.runs)
    @rule(which=numbers, force=st.booleans())
    def cancel(self, which: int, force: bool) -> None:
        run_id = self.runs[which % len(self.runs)]
        order = CancelOrder(note="enough")
        try:
            self.stage.do(runs.cancel(self.world.house, self.world.caller(), run_id, order, force=force))
        except FailedPrecondition:
            assert self.before[run_id][0].state in RUN_TERMINAL
            return
        self.cancelled.add(run_id)

    # -- the server and its runners ----------------------------------------------------------------------------------

    @precondition(lambda self: self.runs)
    @rule(which=numbers, where=st.integers(0, 1))
    def offer(self, which: int, where: int) -> None:
        host = self.stage.hosts[where]
        match = Match(run_id=self.runs[which % len(self.runs)], runner_id=host.holder.runner_id)
        self.stage.do(attempts.offer(self.world.house, [match]))

    @precondition(lambda self: any(isinstance(message, Offer) for _, message in self.world.posted))
    @rule(where=st.integers(0, 1), accept=st.sampled_from((True, True, True, False)))
    def answer_an_offer(self, where: int, accept: bool) -> None:
        host = self.stage.hosts[where]
        for runner_id, message in list(self.world.posted):
            if runner_id != host.holder.runner_id or not isinstance(message, Offer) or host.cut_off:
                continue
            self.world.posted.remove((runner_id, message))
            if accept:
                host.disk.setdefault(message.key, OnDisk(HeldPhase.ACCEPTED))
            reply = OfferReply(key=message.key, accept=accept)
            self.stage.do(reports.offer_reply(self.world.house, host.holder, reply))

    @precondition(_held)
    @rule(where=st.integers(0, 1), hello=st.booleans())
    def say_what_is_held(self, where: int, hello: bool) -> None:
        """An inventory or a heartbeat, and obedience to what is answered."""
        host = self.stage.hosts[where]
        if host.cut_off:
            return
        entries = [held.entry(key) for key, held in host.disk.items()]
        say = reports.inventory if hello else reports.heartbeat
        for verdict in self.stage.do(say(self.world.house, host.holder, entries)):
            self._obey(host, verdict)
        if hello:
            listed = frozenset(host.disk)
            self.stage.do(self.stage.ingest.seal_missing(host.holder, listed))

    @precondition(lambda self: self.runs)
    @rule(which=numbers, where=st.integers(0, 1), until=st.integers(0, 4), outcome=OUTCOMES)
    def go_on(self, which: int, where: int, until: int, outcome: ExitOutcome) -> None:
        """An undisturbed stretch, so that examples get somewhere: offered, accepted, running, writing, ended."""
        self.stage.hosts[where].cut_off = False
        steps = (
            lambda: self.offer(which, where),
            lambda: self.answer_an_offer(where, True),
            lambda: self.say_what_is_held(where, False),
            lambda: self.write(where, which, 40),
            lambda: self.exit(where, which, outcome, True, True),
        )
        for step in steps[: until + 1]:
            step()

    @precondition(_held)
    @rule()
    def catch_up(self) -> None:
        """Both runners send what is not stored yet, so that logs are sealed and released."""
        for where, host in enumerate(self.stage.hosts):
            for key, held in list(host.disk.items()):
                stored = self.stage.log(key)
                if not host.cut_off and len(stored) < len(held.written):
                    self.stage.send(host, key, len(stored), held.written[len(stored) :])
            self.say_what_is_held(where, False)

    def _obey(self, host: Host, verdict: Verdict) -> None:
        held = host.disk[verdict.key]
        match verdict.kind:
            case VerdictKind.START:
                assert held.phase is HeldPhase.ACCEPTED, "an Assignment for what was forked already"
                assert verdict.key.run_id not in self.cancelled, "a cancelled run starts"
                held.phase = HeldPhase.RUNNING
            case VerdictKind.STOP | VerdictKind.FENCED if held.phase is not HeldPhase.EXITED:
                started = held.phase in LIVE
                outcome = ExitOutcome.ENDED_BADLY if started else ExitOutcome.NOT_STARTED
                self._end(host, verdict.key, outcome, empty=True)
            case VerdictKind.RELEASE:
                assert held.phase is HeldPhase.EXITED, "told to forget what lives"
                if verdict.exit_stored:
                    assert self.stage.log(verdict.key) == held.written, "told to forget what is not stored"
                del host.disk[verdict.key]
            case _:
                pass

    def _end(self, host: Host, key: AttemptKey, outcome: ExitOutcome, *, empty: bool) -> None:
        held = host.disk[key]
        proven = empty or outcome in (ExitOutcome.HOST_REBOOTED, ExitOutcome.NOT_STARTED)
        held.record = exit_record(outcome, tree_empty=empty, final_offset=len(held.written), digest="")
        held.phase = HeldPhase.EXITED
        self.proven[key] = proven

    def _pick(self, host: Host, which: int, *phases: HeldPhase) -> AttemptKey | None:
        keys = [key for key, held in host.disk.items() if held.phase in phases]
        return keys[which % len(keys)] if keys else None

    @precondition(_live)
    @rule(where=st.integers(0, 1), which=numbers)
    def say_started(self, where: int, which: int) -> None:
        host = self.stage.hosts[where]
        key = self._pick(host, which, *LIVE)
        if key is not None and not host.cut_off:
            self.stage.do(reports.attempt_started(self.world.house, host.holder, AttemptStarted(key=key, pid=7)))

    @precondition(_live)
    @rule(where=st.integers(0, 1), which=numbers, size=st.integers(1, 50))
    def write(self, where: int, which: int, size: int) -> None:
        """A child writes, network or not."""
        host = self.stage.hosts[where]
        key = self._pick(host, which, *LIVE)
        if key is not None:
            held = host.disk[key]
            held.written += bytes((len(held.written) + at) % 251 for at in range(size))

    @precondition(_held)
    @rule(where=st.integers(0, 1), which=numbers, back=st.integers(0, 20), length=st.integers(1, 60))
    def chunk(self, where: int, which: int, back: int, length: int) -> None:
        """A piece from somewhere before what was acked, so that it repeats, overlaps or goes on."""
        host = self.stage.hosts[where]
        key = self._pick(host, which, *LIVE, HeldPhase.EXITED)
        if key is None or host.cut_off:
            return
        offset = max(0, self.stage.acked[key] - back)
        data = host.disk[key].written[offset : offset + length]
        if data:
            self.stage.send(host, key, offset, data)

    @precondition(_live)
    @rule(where=st.integers(0, 1), which=numbers, outcome=OUTCOMES, empty=st.booleans(), report=st.booleans())
    def exit(self, where: int, which: int, outcome: ExitOutcome, empty: bool, report: bool) -> None:
        host = self.stage.hosts[where]
        key = self._pick(host, which, *LIVE)
        if key is None:
            return
        if outcome in (ExitOutcome.NOT_STARTED, ExitOutcome.START_FAILED) and host.disk[key].written:
            outcome = ExitOutcome.ENDED_WELL
        self._end(host, key, outcome, empty=empty)
        record = host.disk[key].record
        if report and not host.cut_off and record is not None:
            report_ = AttemptExited(key=key, exit=record)
            self.stage.do(reports.attempt_exited(self.world.house, host.holder, report_))
            self.stage.seal(host, key)

    @precondition(_held)
    @rule(where=st.integers(0, 1), which=numbers, clone=st.booleans(), outcome=OUTCOMES)
    def speak_for_another(self, where: int, which: int, clone: bool, outcome: ExitOutcome) -> None:
        """A clone of a holder, or the other runner, says that an attempt has ended: nobody believes it."""
        owner, other = self.stage.hosts[where], self.stage.hosts[1 - where]
        key = self._pick(owner, which, *HeldPhase)
        if key is None or self._read(key).holder != owner.holder:
            return
        who = Holder(runner_id=owner.holder.runner_id, state_directory_id="cloned") if clone else other.holder
        was = self.stage.stored(key.run_id)
        self.stage.do(reports.attempt_exited(self.world.house, who, AttemptExited(key=key, exit=exit_record(outcome))))
        assert self.stage.stored(key.run_id) == was

    def _read(self, key: AttemptKey) -> Attempt:
        return self.stage.stored(key.run_id)[1][key.lease_epoch]

    # -- trouble ---------------------------------------------------------------------------------------------------

    @rule(where=st.integers(0, 1), cut_off=st.sampled_from((True, False, False)))
    def partition_or_heal(self, where: int, cut_off: bool) -> None:
        host = self.stage.hosts[where]
        host.cut_off = cut_off
        kept = [each for each in self.world.posted if each[0] != host.holder.runner_id]
        self.world.posted[:] = kept

    @rule()
    def crash(self) -> None:
        self.stage.crash()

    @rule(seconds=st.sampled_from((0.5, 2.0, 11.0, 40.0, 130.0)))
    def tick(self, seconds: float) -> None:
        self.stage.do(self.world.tick(seconds))

    @rule(seconds=st.sampled_from((20.0, 3_600.0)))
    def pause_the_server(self, seconds: float) -> None:
        """Its own tick comes too late: nobody is given up for that."""
        self.stage.do(self.world.tick(0.5))
        lost = self._count(RunState.LOST)
        self.world.clock.advance(seconds)
        self.stage.do(clocks.tick(self.world.house))
        assert self._count(RunState.LOST) == lost, "given up because the server itself had paused"

    def _count(self, state: RunState) -> int:
        return sum(self.stage.stored(run_id)[0].state is state for run_id in self.runs)

    @rule(seconds=st.sampled_from((-3_600.0, 3_600.0)))
    def step_the_wall_clock(self, seconds: float) -> None:
        self.world.clock.step_wall(seconds)

    # -- what must always hold ---------------------------------------------------------------------------------------

    @invariant()
    def fences_grow_and_only_the_newest_lives(self) -> None:
        for run_id in self.runs:
            run, known, _ = self.stage.stored(run_id)
            live = [each for each in known.values() if each.is_live]
            assert len(live) <= 1
            assert all(each.lease_epoch == run.lease_epoch for each in live)
            assert (not live) == (run.state in RUN_TERMINAL | {RunState.QUEUED})
            assert all(epoch <= run.lease_epoch for epoch in known)
            if run_id in self.before:
                assert run.lease_epoch >= self.before[run_id][0].lease_epoch

    @invariant()
    def what_is_over_stays_as_it_is(self) -> None:
        for run_id in self.runs:
            run, known, events = self.stage.stored(run_id)
            terminal = run.state in RUN_TERMINAL
            assert sum(kind in set(map(str, TERMINAL_EVENT_TYPES)) for kind in events) == terminal
            assert (run.reason is not None) == terminal
            if run_id in self.before:
                old, attempts_before = self.before[run_id]
                if old.state in RUN_TERMINAL:
                    assert (run.state, run.reason, run.completed_at) == (old.state, old.reason, old.completed_at)
                for epoch, attempt in attempts_before.items():
                    if attempt.state in ATTEMPT_TERMINAL:
                        assert (known[epoch].state, known[epoch].reason) == (attempt.state, attempt.reason)
            self.before[run_id] = (run, known)

    @invariant()
    def a_cancel_lasts_and_proof_is_proof(self) -> None:
        for run_id in self.runs:
            run, known, _ = self.stage.stored(run_id)
            if run_id in self.cancelled:
                assert run.state in (RunState.CANCELLING, RunState.CANCELLED)
            given = [each for each in known.values() if each.assigned_at is not None]
            for attempt in given:
                assert not attempt.kill_confirmed or self.proven[attempt.key], "confirmed without proof"
            assert not run.kill_confirmed or all(each.kill_confirmed for each in given)

    @invariant()
    def no_byte_is_lost_repeated_or_changed(self) -> None:
        for host in self.stage.hosts:
            for key, held in host.disk.items():
                stored = self.stage.log(key)
                assert held.written.startswith(stored), "stored what was not written so"
                assert len(stored) >= self.stage.acked[key], "an acked byte is gone"
                assert stored.startswith(self.served.get(key, b"")), "served bytes have changed"
                self.served[key] = stored

    @invariant()
    def the_same_request_stays_the_same_run(self) -> None:
        for request, (which, run_id) in self.by_request.items():
            run = self.stage.do(self.world.submit(SPECS[which], request_id=request))
            assert run.id == run_id


TestCore = Core.TestCase
TestCore.settings = settings(
    max_examples=20, stateful_step_count=35, deadline=None, suppress_health_check=list(HealthCheck)
)
