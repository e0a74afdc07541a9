"""What is left of an attempt whose shim is gone: find out, kill it, prove it, and write the exit record that it owes.

The order in which that is safe is decided in `remains`; here it meets the disk and the kernel.
"""

from __future__ import annotations

import os
import signal
import time

from runner_agent.shim import attempt_files, cgroups, files, remains, spool_format, tree
from runner_agent.shim.codec import BadMessage, JsonObject, from_json
from runner_agent.shim.digest import LogDigest
from runner_agent.shim.messages import ExitRecord, Reason
from runner_agent.shim.records import dataclass
from runner_agent.shim.remains import Standing
from runner_agent.shim.states import NS

__all__ = ["Identity", "LogEnd", "RunDirectory", "Standing", "log_end", "read_identities", "settle"]

WITNESS_S = 5.0
EMPTY_S = 5.0
SWEEP_S = 2.0
QUIET_LOOKS = 3
_PAUSE_S = 0.01
# Not what a shim makes ready before its start is known. Earlier versions wrote a spec.
_TOUCHED = ("tombstone", attempt_files.IDENTITY, "stop", "spec")


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
    return remains.settle(RunDirectory(directory, run_id, epoch))


class RunDirectory:
    """A run directory on disk. Every call blocks; raises BadMessage for what cannot be read, OSError."""

    def __init__(self, directory: str, run_id: str, epoch: int) -> None:
        self._directory, self._run_id, self._epoch = directory, run_id, epoch
        self._lock = -1

    def stored_record(self) -> ExitRecord | None:
        """The exit record, if there is one."""
        value = files.read_json(self._directory, "exit")
        return None if value is None else attempt_files.decode_record(value)

    def take_lock(self) -> bool:
        """Whether the lock was free, and is ours now."""
        lock = files.try_lock(os.path.join(self._directory, "lock"))
        self._lock = -1 if lock is None else lock
        return lock is not None

    def let_go(self) -> None:
        """Give the lock back."""
        os.close(self._lock)

    def is_untouched(self) -> bool:
        """Whether no shim has got so far as to name a child, and nobody has given the attempt up."""
        touched = any(self._has(name) for name in _TOUCHED)
        return not touched and not attempt_files.has_unnamed_identity(self._directory)

    def was_used(self) -> bool:
        """Whether an attempt was ever started here."""
        return attempt_files.was_used(self._directory)

    def leave_tombstone(self) -> bool:
        """False while the disk is full."""
        if self._has("tombstone"):
            return True
        body: JsonObject = {"version": attempt_files.FORMAT_VERSION, "at_ns": time.time_ns()}
        try:
            files.write_once(self._directory, "tombstone", files.encode_json(body))
        except OSError as error:
            if not files.disk_is_full(error):
                raise
            return False
        return True

    def account(self) -> ExitRecord:
        """Kill what a dead shim has left, and say how the attempt ended."""
        directory = self._directory
        identities = read_identities(directory)
        if not identities:
            return remains.never_executed(self._run_id, self._epoch, time.time_ns())
        boot_ids = tuple(identity.boot_id for identity in identities)
        rebooted = remains.was_rebooted(boot_ids, files.boot_id())
        killed, empty = (0, True) if rebooted else _sweep(directory, identities)
        _sync_spool(directory)
        end = log_end(directory)
        stop = files.read_json(directory, "stop")
        reason = None if stop is None else stop.get("reason")
        found = remains.Findings(
            run_id=self._run_id,
            epoch=self._epoch,
            boot_ids=boot_ids,
            final_offset=end.offset,
            digest=end.digest,
            gaps=end.gaps,
            stopped_by=Reason(str(reason)) if reason in Reason._value2member_map_ else None,
            at_ns=time.time_ns(),
        )
        return remains.ended_without_its_shim(found, rebooted=rebooted, killed=killed, empty=empty)

    def store(self, record: ExitRecord) -> None:
        """Keep the exit record; on a full disk the tombstone stands, and the next look comes to the same record."""
        try:
            files.write_exit(self._directory, attempt_files.encode_record(record))
        except OSError as error:
            if not files.disk_is_full(error):
                raise

    def _has(self, name: str) -> bool:
        return os.path.lexists(os.path.join(self._directory, name))


def read_identities(directory: str) -> list[Identity]:
    """The identities of all steps that came to the start barrier. Raises BadMessage, OSError."""
    found = []
    for step in range(attempt_files.MAX_STEPS):
        value = files.read_json(directory, attempt_files.identity_name(step))
        if value is not None:
            found.append(from_json(Identity, value))
    return found or _unnamed_identity(directory)


def _unnamed_identity(directory: str) -> list[Identity]:
    """The first child's identity that has lost its name in a power cut.

    A shim gives it its name before it executes anything, but only the content is synced then. So in the boot in which
    it was written it is one of a child that never left the barrier; so it is, too, if it is not whole, for that was
    not synced. In another boot it may be that of one which did.
    """
    try:
        value = files.read_json(directory, files.temporary(attempt_files.IDENTITY))
        identity = None if value is None else from_json(Identity, value)
    except BadMessage:
        return []
    return [] if identity is None or identity.boot_id == files.boot_id() else [identity]


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
    deadline_ns = time.monotonic_ns() + int(SWEEP_S * NS)
    quiet = 0
    # One that forks without end may be between two lives in a single look.
    while quiet < QUIET_LOOKS and time.monotonic_ns() < deadline_ns:
        quiet = 0 if tree.kill_cookie_holders(identities[0].cookie, casualties) else quiet + 1


def _await_witness(directory: str, identity: Identity) -> bool:
    """Whether the fork server above the dead shim says that nothing is left; it is given time while it lives."""
    deadline_ns = time.monotonic_ns() + int(WITNESS_S * NS)
    while True:
        swept = _testimony(directory, identity)
        if swept is not None:
            return swept.get("tree_empty") is True
        guard = None if identity.guard_start_time is None else files.process_stat(identity.guard_pid)
        if guard is None or guard.is_dead or guard.start_time != identity.guard_start_time:
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
    cgroup = cgroups.at(path)
    if cgroup is None:
        return False
    casualties.killed |= {(pid, files.start_time(pid) or 0) for pid in cgroup.members()}
    cgroup.kill()
    deadline_ns = time.monotonic_ns() + int(EMPTY_S * NS)
    while cgroup.populated() is True and time.monotonic_ns() < deadline_ns:
        # `cgroup.kill` signals first threads: one whose first thread has ended does not hear it.
        for pid in cgroup.members():
            tree.send(pid, signal.SIGKILL, files.start_time(pid))
        time.sleep(_PAUSE_S)
    return cgroup.remove()


# ---- the log of a dead shim


def _sync_spool(directory: str) -> None:
    """What the exit record counts must outlive a power cut with it; the dead shim had synced up to a second ago."""
    for number in spool_format.file_numbers(directory):
        try:
            files.sync_file(os.path.join(directory, spool_format.file_name(number)))
        except OSError as error:
            # As when it is read: what the disk no longer gives becomes a gap, and must not keep the run from its end.
            if not spool_format.is_lost_for_good(error):
                raise


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
