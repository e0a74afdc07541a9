"""The control plane dies behind every commit, before anything that it wanted to say went out: the run still ends.

The runner plays by its disk: what it has accepted, what runs, what has ended; after each restart it says its inventory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from control_plane.domain.ids import AttemptKey, Holder
from control_plane.domain.run import Run
from control_plane.domain.session import ExitOutcome, ExitRecord, HeldAttempt, HeldPhase, Offer, Verdict, VerdictKind
from control_plane.domain.stops import CancelOrder
from control_plane.lifecycle import reports, runs
from tests.fakes.cases import exit_record, spec
from tests.fakes.world import World

STEPS = 12


@dataclass
class Disk:
    """One honest runner's run directories and processes; it forks only on an assignment for what it accepted."""

    holder: Holder
    held: dict[AttemptKey, HeldAttempt]
    forked: list[AttemptKey]

    def accept(self, key: AttemptKey) -> None:
        self.held.setdefault(key, HeldAttempt(key=key, phase=HeldPhase.ACCEPTED))

    def obey(self, verdict: Verdict) -> None:
        entry = self.held.get(verdict.key)
        if entry is None:
            return
        match verdict.kind:
            case VerdictKind.START if entry.phase is HeldPhase.ACCEPTED:
                self.forked.append(verdict.key)
                self.held[verdict.key] = replace(entry, phase=HeldPhase.RUNNING, started_at=None)
            case VerdictKind.STOP | VerdictKind.FENCED if entry.phase is HeldPhase.ACCEPTED:
                self.end(verdict.key, exit_record(ExitOutcome.NOT_STARTED))
            case VerdictKind.STOP | VerdictKind.FENCED if entry.phase is HeldPhase.RUNNING:
                self.end(verdict.key, exit_record(ExitOutcome.ENDED_BADLY, exit_code=None, signal=15))
            case VerdictKind.RELEASE:
                del self.held[verdict.key]
            case _:
                pass

    def end(self, key: AttemptKey, record: ExitRecord) -> None:
        self.held[key] = replace(self.held[key], phase=HeldPhase.EXITED, exit=record)


async def round_trip(world: World, disk: Disk, *, crash: bool) -> None:
    """Dispatch, the runner's inventory, its obedience; with `crash` the server dies after each of them."""
    await world.place(disk.holder)
    offers = [message for _, message in world.posted if isinstance(message, Offer)]
    if crash:
        await world.restart()
    for offer in offers:
        disk.accept(offer.key)
    verdicts = await reports.inventory(world.house, disk.holder, list(disk.held.values()))
    if crash:
        await world.restart()
        verdicts = await reports.inventory(world.house, disk.holder, list(disk.held.values()))
    for verdict in verdicts:
        disk.obey(verdict)
        if verdict.exit_stored and await world.sealed(verdict.key) and crash:
            await world.restart()
    world.posted.clear()
    await world.tick(11.0)


async def play(world: World, holder: Holder, run: Run, outcome: ExitOutcome | None, *, crash: bool) -> Disk:
    disk = Disk(holder=holder, held={}, forked=[])
    for _ in range(STEPS):
        await round_trip(world, disk, crash=crash)
        running = [key for key, entry in disk.held.items() if entry.phase is HeldPhase.RUNNING]
        if outcome is not None:
            for key in running:
                disk.end(key, exit_record(outcome))
        elif running:
            await runs.cancel(world.house, world.caller(), run.id, CancelOrder())
            if crash:
                await world.restart()
    return disk


@pytest.mark.parametrize("crash", [False, True], ids=["calm", "crashing"])
@pytest.mark.parametrize(
    ("outcome", "state", "forks"),
    [(ExitOutcome.ENDED_WELL, "SUCCEEDED", 1), (ExitOutcome.ENDED_BADLY, "FAILED", 2), (None, "CANCELLED", 1)],
)
async def test_a_run_ends_and_settles_although_the_server_dies_at_every_step(
    world: World, holder: Holder, outcome: ExitOutcome | None, state: str, forks: int, crash: bool
) -> None:
    run = await world.submit(spec(max_attempts=2))
    disk = await play(world, holder, run, outcome, crash=crash)
    ended = await world.stored(run.id)
    assert ended.state == state
    assert ended.settled_at is not None
    assert ended.kill_confirmed
    assert disk.held == {}
    assert len(disk.forked) == len(set(disk.forked)) == forks
    terminal = [event for event in await world.history(run.id) if event.type in ("SUCCEEDED", "FAILED", "CANCELLED")]
    assert len(terminal) == 1
