"""A house with points, one runner, and runs that tell the truth: what every scenario of a kill holds its runs to."""

from __future__ import annotations

import hashlib
import json
import pathlib
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from banksman.v1 import log_pb2, run_pb2

from tests.failpoints.house import PointedHouse
from tests.history import truthful
from tests.history.recorder import Recorder
from tests.scenarios.faults import lock_holder
from tests.scenarios.house import Agent
from tests.scenarios.specs import seconds, spec
from tests.waiting import wait_for

T = TypeVar("T")

PIECES = 24
BLOCK_BYTES = 1 << 20
RUNNER = "r1"
HANDOVER = "--handover"


class Told:
    """One run as it was asked for: the plan of each of its steps."""

    def __init__(self, scene: Scene, plans: list[dict[str, Any]], **fields: Any) -> None:
        self.plans = plans
        self.request_id = uuid.uuid4().hex
        self.wanted = spec(*(truthful.argv(scene.place, plan) for plan in plans), **fields)
        self.id = ""

    def whole(self, descriptor: int) -> bytes:
        """All that its steps write to standard output (1) or standard error (2)."""
        return b"".join(data for plan in self.plans for _, data in truthful.pieces(plan, descriptor))


class Scene:
    """Made once and used by one test after the other, until one has failed: then it is `broken`."""

    def __init__(self, **settings: object) -> None:
        self.house = PointedHouse(**settings)
        self.broken = False
        try:
            self.points = self.house.points
            self.place = self.house.root / "t"
            self.recorder = Recorder(self.house.root.with_suffix(".jsonl"), self.place)
            self.house.doors = self.house.client("", self.recorder)
            self.agent: Agent = self.house.agent(RUNNER, slots=8)
        except BaseException:
            self.house.close()
            raise

    @property
    def state(self) -> pathlib.Path:
        return self.house.root / "r0"

    # -- runs

    def plan(self, *, steps: int = 1, code: int = 0, **fields: Any) -> list[dict[str, Any]]:
        """Plans of steps that write a little; the last one exits with the code."""
        name = uuid.uuid4().hex
        given = {"pieces": PIECES, "pause_s": 0.004, "sizes": [10, 100, 3_000], **fields}
        return [
            truthful.plan(name=name, step=step, code=code if step == steps - 1 else 0, **given) for step in range(steps)
        ]

    def told(self, *, steps: int = 1, code: int = 0, grace_s: float = 0.4, spec: Any = None, **fields: Any) -> Told:
        """A run to be submitted; `fields` are its plans', `spec` holds fields of its RunSpec."""
        return Told(self, self.plan(steps=steps, code=code, **fields), grace=seconds(grace_s), **(spec or {}))

    def submit(self, told: Told) -> bool:
        """Ask for the run (again); False if the control plane died over it."""
        made = self.ask(lambda: self.house.submit(told.wanted, request_id=told.request_id))
        if made is not None:
            self.note(told, made.id)
        return made is not None

    def note(self, told: Told, run: str) -> None:
        """This run is as it was told."""
        if not told.id:
            self.recorder.submitted(run, told.plans, request_id=told.request_id)
        assert told.id in ("", run), "asked twice with one request id, and made two"
        told.id = run

    def ask(self, call: Callable[[], T]) -> T | None:
        """The answer; None if the control plane died over it."""
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return None

    def begun(self, **fields: Any) -> Told:
        """A run whose program has started."""
        told = self.told(**fields)
        assert self.submit(told)
        self.wait_word(told, "start")
        return told

    # -- the truth

    def truth(self, told: Told, *words: str) -> list[dict[str, Any]]:
        """What the run's program said of itself."""
        path = self.place / "truth"
        said = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in said if line["run"] == told.id and line["word"] in words]

    def wait_word(self, told: Told, word: str, count: int = 1) -> None:
        wait_for(lambda: len(self.truth(told, word)) >= count, what=f"the run says {word!r}: {self.truth(told, word)}")

    def survivors(self, told: Told) -> list[str]:
        """Locks that processes of the run still hold."""
        return truthful.alive(self.place, told.id)

    # -- what must hold at the end

    def expect(self, told: Told, state: int, reason: int, *, confirmed: bool = True, tries: int = 1) -> run_pb2.Run:
        """The run ends so, ran once, its log is exact, nothing of it is left on the host."""
        run = self._ended(told, state, reason, confirmed, tries)
        self.expect_log(told, run)
        return run

    def expect_lost(self, told: Told, *, confirmed: bool | None = None) -> run_pb2.Run:
        """Its shim died; of its log what there is, is right. None: proven or not, but what is said is true."""
        return self.expect_cut_off(told, run_pb2.RUN_STATE_LOST, run_pb2.REASON_SHIM_DIED, confirmed)

    def expect_cut_off(self, told: Told, state: int, reason: int, confirmed: bool | None = None) -> run_pb2.Run:
        """As `expect`, but nobody could say how much its program had written."""
        self.recorder.fault("shim", run=told.id)
        run = self._ended(told, state, reason, confirmed, 1)
        self._expect_prefix(told, run)
        return run

    def _ended(self, told: Told, state: int, reason: int, confirmed: bool | None, tries: int) -> run_pb2.Run:
        run = self.house.wait(told.id)
        assert (run.state, run.reason) == (state, reason), f"{run}\n{self.house.said()}"
        assert confirmed is None or run.kill_confirmed is confirmed, run
        assert not (run.kill_confirmed and self.survivors(told)), f"{self.survivors(told)} live, {run}"
        self.expect_once(told, run, tries)
        self.expect_released(told)
        wait_for(lambda: not self.survivors(told), what="nothing of the run is left")
        return run

    def expect_succeeded(self, told: Told) -> run_pb2.Run:
        run = self.expect(told, run_pb2.RUN_STATE_SUCCEEDED, run_pb2.REASON_EXIT_ZERO)
        assert len(self.truth(told, "stop")) == len(told.plans)
        return run

    def expect_cancelled(self, told: Told) -> run_pb2.Run:
        return self.expect(told, run_pb2.RUN_STATE_CANCELLED, run_pb2.REASON_USER_CANCEL)

    def expect_once(self, told: Told, run: run_pb2.Run, tries: int = 1) -> None:
        """No step ran twice in one attempt, and of all attempts at most `tries` ran anything; none at the same time."""
        assert not self.truth(told, "overlap"), self.truth(told, "start", "overlap")
        said = self.truth(told, "start")
        starts = [(line["epoch"], line["step"]) for line in said]
        assert len(starts) == len(set(starts)), f"a step ran twice: {said}"
        epochs = {epoch for epoch, _ in starts}
        assert len(epochs) <= tries, f"it ran under {epochs}"
        assert epochs <= {attempt.lease_epoch for attempt in run.attempts}, run
        for epoch in epochs:
            steps = [step for ran, step in starts if ran == epoch]
            assert steps == list(range(len(steps))), f"steps are skipped or out of order: {steps}"

    def expect_log(self, told: Told, run: run_pb2.Run) -> None:
        """The newest attempt's: from its first byte on without a gap, as long and with the digest as it says."""
        newest = newest_of(run)
        unread = [line for line in self.truth(told, "broken") if line["epoch"] == newest.lease_epoch]
        assert not unread, "nobody read what the program wrote"
        end, data = self._read(told, log_pb2.LOG_KIND_STDOUT, log_pb2.LOG_KIND_STDERR, log_pb2.LOG_KIND_SYSTEM)
        assert end.complete, end
        assert (end.bytes, end.digest) == (len(data), _digest(data)), end
        assert newest.log_complete, newest
        assert not newest.gaps, newest
        for descriptor, read in self._expect_prefix(told, run).items():
            assert len(read) >= self._wrote(told, newest.lease_epoch, descriptor), f"bytes of {descriptor} are lost"
            if run.state in (run_pb2.RUN_STATE_SUCCEEDED, run_pb2.RUN_STATE_FAILED):
                assert read == told.whole(descriptor), f"stream {descriptor}: only {len(read)} bytes"

    def _expect_prefix(self, told: Told, run: run_pb2.Run) -> dict[int, bytes]:
        """The streams of the newest attempt, which are what the program writes first."""
        found = {}
        for descriptor, kind in ((1, log_pb2.LOG_KIND_STDOUT), (2, log_pb2.LOG_KIND_STDERR)):
            read = found[descriptor] = self._read(told, kind)[1]
            whole = told.whole(descriptor)
            assert whole.startswith(read), f"stream {descriptor} is not what the program wrote"
        return found

    def _read(self, told: Told, *kinds: int) -> tuple[log_pb2.LogEnd, bytes]:
        data, offset = b"", 0
        for item in self.house.batches(told.id, follow=True, kinds=kinds):
            if item.HasField("end"):
                return item.end, data
            assert item.batch.offset >= offset, item.batch.offset
            offset = item.batch.next_offset
            data += b"".join(record.data for record in item.batch.records)
        raise AssertionError("the log did not end")

    def _wrote(self, told: Told, epoch: int, descriptor: int) -> int:
        """How much the attempt's program says at least that it wrote. A shim that died has lost what was in pipes."""
        counts = [path.read_bytes().split() for path in (self.place / told.id).glob(f"{epoch}.*.wrote")]
        return sum(int(count[descriptor - 1]) for count in counts if len(count) == 2)

    def expect_released(self, told: Told) -> None:
        """The runner has forgotten the run: no directory, no workspace, no slot."""

        def free() -> bool:
            runner = self.agent.runner()
            left = [path for part in ("runs", "workspaces") for path in (self.state / part).glob(f"*{told.id}*")]
            return not left and runner is not None and told.id not in runner.held_run_ids

        wait_for(free, what=f"the run's directory is released\n{self.house.said()}")

    def expect_sound(self) -> None:
        """After all scenarios: nothing is quarantined, and the whole history holds what is promised."""
        assert not list((self.state / "runs" / "quarantine").iterdir())
        self.agent.expect_running()
        for run in list(self.recorder.plans):
            self.recorder.read_logs(self.house.doors, run)
        self.recorder.expect_whole(self.house)

    def close(self) -> None:
        """End everything. The history of a scene that broke is kept, to be looked at."""
        self.house.close()
        if not self.broken:
            self.recorder.path.unlink()

    # -- who dies and comes back

    def die(self, orders: str, act: Callable[[], object], *, timeout_s: float = 30.0) -> None:
        """Arm one order that kills, act, and wait until it has struck."""
        self.points.arm(orders)
        self.recorder.fault(orders)
        act()
        self.points.wait(orders.partition(":")[0], timeout_s=timeout_s)

    def server_returns(self) -> None:
        """The server, which was killed, is started again."""
        assert self.house.server.wait(15) == -9
        self.house.start_server()

    def agent_returns(self, status: int = -9) -> None:
        """The agent, which has ended, is started again."""
        assert self.agent.wait(15) == status, self.agent.said()
        self.agent.start()

    def successor(self) -> Agent:
        """Another agent of the same runner, which asks the one that is there to leave."""
        return Agent(self.house, RUNNER, [*self.agent.argv, *(() if HANDOVER in self.agent.argv else (HANDOVER,))])

    def take(self, newer: Agent) -> None:
        """The successor is the agent now."""
        self.agent = self.house.agents[RUNNER] = newer

    def shim_of(self, told: Told) -> int:
        """The process that holds the run's directory."""
        (directory,) = (self.state / "runs").glob(f"{told.id}.*")
        return wait_for(lambda: lock_holder(directory / "lock"), what="a shim holds the run's directory")

    def guard(self) -> int:
        """The fork server."""
        if lock_holder(self.state / "fork.lock") is None:
            self.expect_succeeded(self.begun())  # the next fork starts one
        return wait_for(lambda: lock_holder(self.state / "fork.lock"), what="there is a fork server")


def newest_of(run: run_pb2.Run) -> run_pb2.Attempt:
    """The attempt with the highest fence."""
    return max(run.attempts, key=lambda attempt: attempt.lease_epoch)


def _digest(data: bytes) -> str:
    """SHA-256 over the SHA-256s of the blocks: as the contract says, and not as the product computes it."""
    outer = hashlib.sha256()
    for start in range(0, len(data), BLOCK_BYTES):
        outer.update(hashlib.sha256(data[start : start + BLOCK_BYTES]).digest())
    return outer.hexdigest()
