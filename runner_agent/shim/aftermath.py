"""What is left of an attempt whose shim is gone: find out, kill it, prove it, and write the exit record that it owes.

The order is what makes it safe: take the lock of the run directory, leave a tombstone (from then on no shim can start
a child there), and only then say what happened.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from enum import StrEnum

from runner_agent.shim import attempt_files, files, spool_format, tree
from runner_agent.shim.cgroup import Cgroup
from runner_agent.shim.codec import BadMessage, JsonObject, from_json
from runner_agent.shim.digest import LogDigest
from runner_agent.shim.messages import ExitRecord, Outcome, Reason
from runner_agent.shim.states import NS

WITNESS_S = 5.0
EMPTY_S = 5.0
_PAUSE_S = 0.01


class Standing(StrEnum):
    """How an attempt stands on this host.

    ACCEPTED: promised, nothing was started. LIVE: a shim holds the lock, or nothing else can be said while the disk is
    full: look again. EXITED: there is an exit record. QUARANTINED: its directory cannot be read and was set aside.
    """

    ACCEPTED = "ACCEPTED"
    LIVE = "LIVE"
    EXITED = "EXITED"
    QUARANTINED = "QUARANTINED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a step's child was, and who watched it. Start times are clock ticks since boot."""

    run_id: str
    epoch: int
    pid: int
    boot_id: str
    cookie: str
    start_time: int | None = None
    cgroup: str | None = None
    shim_pid: int = 0
    guard_pid: int = 0
    guard_start_time: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEnd:
    """How a spool ends. `digest` is None if its beginning was deleted after it had been fetched."""

    offset: int
    digest: str | None
    gaps: tuple[tuple[int, int], ...]


def settle(directory: str, run_id: str, epoch: int) -> tuple[Standing, ExitRecord | None]:
    """How the attempt in `directory` stands; a dead shim's is killed and gets its exit record first.

    Blocks for up to ten seconds in that case. Raises BadMessage for what cannot be read, OSError.
    """
    record = _stored_record(directory)
    if record is not None:
        return Standing.EXITED, record
    lock = _lock(directory)
    if lock is None:
        return Standing.LIVE, None
    try:
        record = _stored_record(directory)  # it may have ended while we came
        if record is None and _is_untouched(directory):
            return Standing.ACCEPTED, None
        if record is None and not _leave_tombstone(directory):
            return Standing.LIVE, None
        if record is None:
            record = _account(directory, run_id, epoch)
            _store(directory, record)
        return Standing.EXITED, record
    finally:
        os.close(lock)


def _stored_record(directory: str) -> ExitRecord | None:
    value = files.read_json(directory, "exit")
    return None if value is None else attempt_files.decode_record(value)


def _lock(directory: str) -> int | None:
    return files.try_lock(os.path.join(directory, "lock"))


def _is_untouched(directory: str) -> bool:
    """Whether no shim has got so far as to prepare the directory, and nobody has given the attempt up."""
    return not any(os.path.lexists(os.path.join(directory, name)) for name in ("tombstone", "spec", "identity", "stop"))


def _leave_tombstone(directory: str) -> bool:
    """False while the disk is full: what has no tombstone is not called dead, and is looked at again."""
    if os.path.lexists(os.path.join(directory, "tombstone")):
        return True
    body: JsonObject = {"version": attempt_files.FORMAT_VERSION, "at_ns": time.time_ns()}
    try:
        files.write_once(directory, "tombstone", files.encode_json(body))
    except OSError as error:
        if not files.disk_is_full(error):
            raise
        return False
    return True


def _store(directory: str, record: ExitRecord) -> None:
    try:
        files.write_exit(directory, attempt_files.encode_record(record))
    except OSError as error:
        if not files.disk_is_full(error):
            raise
        # The tombstone stands: the next look comes to the same record, and tries again to store it.


def _account(directory: str, run_id: str, epoch: int) -> ExitRecord:
    identities = read_identities(directory)
    if not identities:
        return ExitRecord(
            run_id=run_id, epoch=epoch, outcome=Outcome.NOT_STARTED, reason=Reason.NOT_STARTED,
            message="the attempt's shim died before anything was executed", tree_empty=True, kill_confirmed=True,
            ended_at_ns=time.time_ns(), final_offset=0, digest=LogDigest().hex(),
        )  # fmt: skip
    rebooted = any(identity.boot_id != files.boot_id() for identity in identities)
    killed, empty = (0, True) if rebooted else _sweep(directory, identities)
    end = log_end(directory)
    stop = files.read_json(directory, "stop")
    reason = None if stop is None else stop.get("reason")
    return ExitRecord(
        run_id=run_id,
        epoch=epoch,
        outcome=Outcome.HOST_REBOOTED if rebooted else Outcome.SHIM_DIED,
        reason=Reason.HOST_REBOOTED if rebooted else Reason.SHIM_DIED,
        message="the host was rebooted under the run" if rebooted else "the run's shim died, and the run with it",
        stopped_by=Reason(str(reason)) if reason in Reason._value2member_map_ else None,
        survivors_killed=killed,
        tree_empty=empty,
        kill_confirmed=empty,
        final_offset=end.offset,
        digest=end.digest,
        gaps=end.gaps,
        ended_at_ns=time.time_ns(),
    )


def read_identities(directory: str) -> list[Identity]:
    """The identities of all steps that came to the start barrier. Raises BadMessage, OSError."""
    found = []
    for step in range(attempt_files.MAX_STEPS):
        value = files.read_json(directory, attempt_files.identity_name(step))
        if value is not None:
            found.append(from_json(Identity, value))
    return found


# ---- killing what a dead shim has left


def _sweep(directory: str, identities: list[Identity]) -> tuple[int, bool]:
    """(how many were killed, whether the kernel said that none is left)."""
    casualties = tree.Casualties()
    _kill_known(identities, casualties)
    witnessed = _await_witness(directory, identities[0])
    # A step began only after the tree of the one before it was proven empty: the last one's cgroup decides.
    emptied = _empty_cgroup(identities[-1].cgroup, casualties)
    _kill_known(identities, casualties)
    swept = _testimony(directory, identities[0])
    seen = 0 if swept is None else swept.get("killed")
    return max(len(casualties.killed), seen if isinstance(seen, int) else 0), witnessed or emptied


def _kill_known(identities: list[Identity], casualties: tree.Casualties) -> None:
    for identity in identities:
        if identity.start_time is not None and tree.send(identity.pid, signal.SIGKILL, identity.start_time):
            casualties.killed.add((identity.pid, identity.start_time))
    tree.kill_cookie_holders(identities[0].cookie, casualties)


def _await_witness(directory: str, identity: Identity) -> bool:
    """Whether the fork server above the dead shim says that nothing is left; it is given time while it lives."""
    deadline_ns = time.monotonic_ns() + int(WITNESS_S * NS)
    while True:
        swept = _testimony(directory, identity)
        if swept is not None:
            return swept.get("tree_empty") is True
        guarded = identity.guard_start_time is not None
        if not guarded or files.start_time(identity.guard_pid) != identity.guard_start_time:
            return False
        if time.monotonic_ns() >= deadline_ns:
            return False
        time.sleep(_PAUSE_S)


def _testimony(directory: str, identity: Identity) -> JsonObject | None:
    """What the fork server wrote about this very shim (an earlier one may have died before it began)."""
    swept = files.read_json(directory, "swept")
    return swept if swept is not None and swept.get("shim_pid") == identity.shim_pid else None


def _empty_cgroup(path: str | None, casualties: tree.Casualties) -> bool:
    """Kill by cgroup; True if the kernel says that it is empty, or has let it be removed, which only then works."""
    if path is None:
        return False
    cgroup = Cgroup(path)
    casualties.killed |= {(pid, files.start_time(pid) or 0) for pid in cgroup.members()}
    cgroup.kill()
    deadline_ns = time.monotonic_ns() + int(EMPTY_S * NS)
    while cgroup.populated() is True and time.monotonic_ns() < deadline_ns:
        time.sleep(_PAUSE_S)
    return cgroup.remove()


# ---- the log of a dead shim


def log_end(directory: str) -> LogEnd:
    """How far the spool of a dead shim can be read. Raises OSError, BadMessage."""
    digest = LogDigest()
    whole = True
    for position, number in enumerate(spool_format.file_numbers(directory)):
        if position == 0 and number > 0:
            whole = False
        for record in spool_format.read_records(directory, number):
            if record.offset < digest.offset:
                raise BadMessage(f"{spool_format.file_name(number)} goes back in offsets")
            digest.gap(record.offset)
            digest.data(record.data)
    if whole:
        return LogEnd(offset=digest.offset, digest=digest.hex(), gaps=tuple(digest.gaps))
    # What was deleted had been fetched: it is no gap.
    return LogEnd(offset=digest.offset, digest=None, gaps=tuple(digest.gaps[1:]))
