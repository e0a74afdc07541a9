"""What must hold, looked at as it happens and at the end. Every sentence names its invariant."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from control_plane.domain.attempt import ATTEMPT_TERMINAL
from control_plane.domain.ids import AttemptKey, RunId
from control_plane.domain.run import RUN_TERMINAL
from tests.simulation.truth import Key, Truth, short

if TYPE_CHECKING:
    from tests.simulation.server import LogFiles

_RUN_OVER = frozenset(str(state) for state in RUN_TERMINAL)
_ATTEMPT_OVER = frozenset(str(state) for state in ATTEMPT_TERMINAL)


class Checks:
    """Watches the store's moves, and what runners are told."""

    def __init__(self, truth: Truth, now: Callable[[], float], trace: Callable[..., None]) -> None:
        self.truth, self._now, self._trace = truth, now, trace
        self.logs: LogFiles
        # Since when the server has been listening without a break, and how long it must before it gives an attempt up.
        self.awake_since = 0.0
        self.patience_s: Callable[[str], float] = lambda run_id: 0.0
        self.acked: dict[AttemptKey, int] = {}
        self.served: dict[AttemptKey, bytes] = {}
        self._pending: list[tuple[str, str, int, str, str]] = []

    def violate(self, text: str) -> None:
        self._trace("VIOLATION", text)
        self.truth.violate(self._now(), text)

    # -- moves of the store

    def noticed(self, what: str, run_id: str, epoch: int, was: str, now: str | int) -> None:
        self._pending.append((what, run_id, epoch, str(was), str(now)))

    def undone(self) -> None:
        self._pending.clear()

    def committed(self) -> None:
        pending, self._pending = self._pending, []
        for what, run_id, epoch, was, now in pending:
            self._trace("store", what, run_id[-6:], epoch & 0xFFFF, was, now)
            getattr(self, f"_{what}")(Key(run_id, epoch), was, now)

    def _run(self, key: Key, was: str, now: str) -> None:
        old_state, old_epoch, old_cancel = was.split("|")
        state, epoch, cancel = now.split("|")
        name = key.run_id[-6:]
        if old_state in _RUN_OVER and state != old_state:
            self.violate(f"I3 run {name} went from {old_state} to {state}")
        if int(epoch) < int(old_epoch):
            self.violate(f"I1 run {name}: its fence went back from {old_epoch} to {epoch}")
        if old_cancel == "1" and cancel == "0":
            self.violate(f"I4 run {name}: its cancel was forgotten")
        if cancel == "1" and state == "QUEUED":
            self.violate(f"I4 run {name} is queued again though its cancel was accepted")

    def _attempt(self, key: Key, was: str, now: str) -> None:
        state, run_epoch, reason, exit_stored = now.split("|")
        if was in _ATTEMPT_OVER:
            self.violate(f"I3 attempt {short(key)} went from {was} to {state}")
        if int(run_epoch) != key.epoch and state != "CANCELLED":
            self.violate(f"I1 attempt {short(key)} became {state} under fence {run_epoch}")
        if state == "LOST" and reason == "RUNNER_LOST" and exit_stored == "0":
            self._given_up(key)

    def _given_up(self, key: Key) -> None:
        """The loss clock ran out: the server must have listened for all that time, awake and in one life."""
        patience_s = self.patience_s(key.run_id)
        listened_s = self._now() - self.awake_since
        if listened_s < patience_s - 1.0:
            self.violate(
                f"I2 attempt {short(key)} given up after {listened_s:.1f} s of listening, not {patience_s:.0f}"
            )

    def _born(self, key: Key, was: str, now: str) -> None:
        if int(now) > 1:
            self.violate(f"I1 run {key.run_id[-6:]} has {now} live attempts")

    def _kill(self, key: Key, was: str, now: str) -> None:
        if self.truth.alive(key):
            self.violate(f"I4 kill_confirmed of {short(key)} while a process of it lives")

    def _run_kill(self, key: Key, was: str, now: str) -> None:
        if self.truth.living.get(key.run_id):
            self.violate(f"I4 kill_confirmed of run {key.run_id[-6:]} while a process of it lives")

    def _seal(self, key: Key, was: str, now: str) -> None:
        if now == "1":
            self._whole(key)

    # -- logs

    def _whole(self, key: Key) -> None:
        """A log that is called complete holds all that its children wrote."""
        written = self.truth.written.get(key)
        stored = self.stored(key)
        if written is None:
            if stored:
                self.violate(f"I5 log of {short(key)} holds bytes that nobody wrote")
            return
        own = b"".join(bytes(stored[start : start + size]) for start, size in written.own)
        if stored != bytes(written.taken) or own != bytes(written.children):
            self.violate(
                f"I5 log of {short(key)} is called complete with {len(stored)} bytes; {len(written.taken)} were taken, "
                f"{len(written.children)} written by children"
            )

    def stored(self, key: Key) -> bytes:
        where = AttemptKey(run_id=RunId(key.run_id), lease_epoch=key.epoch)
        end = self.logs.end(where)
        log = self.logs._log(where)
        return b"".join(record.data for start, record in log.records if start < end)

    def heard_ack(self, key: AttemptKey, offset: int) -> None:
        """A runner was told that everything below `offset` is safe."""
        if offset > self.acked.get(key, 0):
            self.acked[key] = offset
        if offset > self.logs.end(key):
            self.violate(f"I5 {offset} bytes of {key.run_id[-6:]} were acked, {self.logs.end(key)} are stored")

    def read_again(self) -> None:
        """Whatever was served once is served again, and what was acked is there."""
        for key, offset in self.acked.items():
            if self.logs.end(key) < offset:
                self.violate(f"I5 acked bytes of {key.run_id[-6:]} are lost: {self.logs.end(key)} of {offset}")
            where = Key(key.run_id, key.lease_epoch)
            before, now = self.served.get(key, b""), self.stored(where)
            if now[: len(before)] != before:
                self.violate(f"I5 served bytes of {short(where)} have changed")
            self.served[key] = now
            taken = bytes(self.truth.log(where).taken)
            if taken[: len(now)] != now:
                self.violate(f"I5 stored bytes of {short(where)} are not those that were written")
