"""How an attempt stands without its shim: what is decided about a run directory, and in which order. No I/O of its own.

The order is what makes it safe: take the lock, leave a tombstone (from then on no shim can start a child there), and
only then say what happened.
"""

from __future__ import annotations

import errno
from enum import StrEnum
from typing import Protocol

from runner_agent.shim.digest import LogDigest
from runner_agent.shim.messages import ExitRecord, Outcome, Reason
from runner_agent.shim.records import dataclass


class Standing(StrEnum):
    """How an attempt stands on this host.

    ACCEPTED: promised, nothing was started. LIVE: a shim holds the lock, or nothing else can be said while the disk is
    full: look again. EXITED: there is an exit record. QUARANTINED: its directory cannot be read and was set aside.
    """

    ACCEPTED = "ACCEPTED"
    LIVE = "LIVE"
    EXITED = "EXITED"
    QUARANTINED = "QUARANTINED"


class Remains(Protocol):
    """A run directory, for whoever finds out how its attempt stands."""

    def stored_record(self) -> ExitRecord | None:
        """The exit record, if there is one."""

    def take_lock(self) -> bool:
        """Whether the lock was free, and is ours now."""

    def let_go(self) -> None:
        """Give the lock back."""

    def is_untouched(self) -> bool:
        """Whether no shim has got so far as to name a child, and nobody has given the attempt up."""

    def was_used(self) -> bool:
        """Whether an attempt was ever started here."""

    def leave_tombstone(self) -> bool:
        """False while the disk is full: what has no tombstone is not called dead, and is looked at again."""

    def account(self) -> ExitRecord:
        """Kill what a dead shim has left, and say how the attempt ended."""

    def store(self, record: ExitRecord) -> None:
        """Keep the exit record."""


def settle(remains: Remains) -> tuple[Standing, ExitRecord | None]:
    """How the attempt stands; a dead shim's is killed and gets its exit record first."""
    record = remains.stored_record()
    if record is not None:
        return Standing.EXITED, record
    if not remains.take_lock():
        return Standing.LIVE, None
    try:
        record = remains.stored_record()  # it may have ended while we came
        if record is None and remains.is_untouched():
            return Standing.ACCEPTED, None
        if record is None and not remains.leave_tombstone():
            return Standing.LIVE, None
        if record is None:
            record = remains.account()
            remains.store(record)
        return Standing.EXITED, record
    finally:
        remains.let_go()


def end_unstarted(remains: Remains, record: ExitRecord) -> ExitRecord | None:
    """Make sure that no shim can start anything here any more, then keep the record; one that is there stays.

    None if a shim has the directory or has had it. Raises OSError.
    """
    if not remains.take_lock():
        return None
    try:
        stored = remains.stored_record()
        if stored is not None:
            return stored
        if remains.was_used():
            return None
        if not remains.leave_tombstone():
            raise OSError(errno.ENOSPC, "the disk is full: no tombstone could be left")
        remains.store(record)
        return record
    finally:
        remains.let_go()


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What is found of an attempt whose shim is dead. `boot_ids`: of each step that came to the start barrier.

    `digest` is None if the beginning of its log was deleted after it had been fetched.
    """

    run_id: str
    epoch: int
    boot_ids: tuple[str, ...]
    final_offset: int
    digest: str | None
    gaps: tuple[tuple[int, int], ...]
    stopped_by: Reason | None
    at_ns: int


def never_executed(run_id: str, epoch: int, at_ns: int) -> ExitRecord:
    """No step came to the start barrier, and none can any more."""
    return ExitRecord(
        run_id=run_id,
        epoch=epoch,
        outcome=Outcome.NOT_STARTED,
        reason=Reason.NOT_STARTED,
        message="the attempt's shim died before anything was executed",
        tree_empty=True,
        kill_confirmed=True,
        ended_at_ns=at_ns,
        final_offset=0,
        digest=LogDigest().hex(),
    )


def was_rebooted(boot_ids: tuple[str, ...], boot_id: str) -> bool:
    """A reboot is believed per attempt: what it wrote down, it wrote down in another boot."""
    return any(each != boot_id for each in boot_ids)


def ended_without_its_shim(found: Findings, *, rebooted: bool, killed: int, empty: bool) -> ExitRecord:
    """The record that a dead shim owes. `empty`: the kernel's word that nothing of the tree is left."""
    return ExitRecord(
        run_id=found.run_id,
        epoch=found.epoch,
        outcome=Outcome.HOST_REBOOTED if rebooted else Outcome.SHIM_DIED,
        reason=Reason.HOST_REBOOTED if rebooted else Reason.SHIM_DIED,
        message="the host was rebooted under the run" if rebooted else "the run's shim died, and the run with it",
        stopped_by=found.stopped_by,
        survivors_killed=killed,
        tree_empty=empty,
        kill_confirmed=empty,
        final_offset=found.final_offset,
        digest=found.digest,
        gaps=found.gaps,
        ended_at_ns=found.at_ns,
    )
