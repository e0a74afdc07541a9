"""Run directories: the agent's only journal. What was accepted, what lives, how what is gone has ended.

    <state>/id, place     name this state directory; made with it
    <state>/agent.lock    held by the one agent that may use it
    <state>/runs/<run>.<epoch>/{accept,spec,identity,stop,exit,tombstone,swept,lock,spool.N}
    <state>/runs/quarantine/   what could not be read, with a message each

That a run directory is there is the acceptance: one sync of `runs` makes any number of them last. `accept` holds what
is not the usual; an earlier version wrote it always.

Every call blocks on the disk (a scan for as long as killing what dead shims have left takes): use a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from runner_agent.execution import state_copy
from runner_agent.shim import aftermath, attempt_files, cgroups, files, protocol
from runner_agent.shim.aftermath import Standing
from runner_agent.shim.cgroup import Cgroup
from runner_agent.shim.codec import BadMessage, JsonObject
from runner_agent.shim.messages import ExitRecord
from runner_agent.workspace.removal import remove_tree

__all__ = ["Entry", "Standing", "StateDirectory", "StateDirectoryBusy", "StillLive"]

RELEASE_WAIT_S = 5.0
LEAVING_S = 5.0  # not before its disk has taken what it has made ready
# Before Hello: settling is waiting for the most part.
SCAN_THREADS = 16
SCAN_S = 12.0
_QUARANTINE = "quarantine"
_GONE = ".gone-"
_MESSAGE = "why-quarantined.txt"
_UNFINISHED_MARK = "accept.tmp"
_UNFINISHED = frozenset({_UNFINISHED_MARK, "lock", _MESSAGE})
# What may stand in a run directory, without the numbers of steps and spool files.
_NAMES = frozenset(
    {"accept", "agent", "spec", "identity", "stop", "exit", "tombstone", "swept", "lock", "spool", "control"}
)
# Only a shim leaves these.
_MARKS = frozenset({"spec", *attempt_files.MARKS_OF_USE})
# What most attempts are accepted with: what an entry without an acceptance of its own is taken for.
_USUAL: tuple[JsonObject, ...] = ({}, {"slots": 1})


class StateDirectoryBusy(RuntimeError):
    """Another agent uses this state directory."""


class StillLive(RuntimeError):
    """A shim still holds the run directory that was to be removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One attempt on this host. `details` is what `accept` was given; `record` is there when it has EXITED.

    A QUARANTINED entry says why in `message`; its run id and epoch are empty and 0 if even its name is unreadable.
    """

    path: Path
    run_id: str
    epoch: int
    standing: Standing
    details: JsonObject
    record: ExitRecord | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """The promise to run an attempt. `details` are the agent's own and must hold no secret."""

    run_id: str
    epoch: int
    details: JsonObject

    @property
    def is_usual(self) -> bool:
        """Whether the run directory alone says it all."""
        return self.details in _USUAL


class StateDirectory:
    """The agent's state on disk, held exclusively until `close`."""

    def __init__(self, path: Path, lock: int, identifier: str, warnings: tuple[str, ...] = ()) -> None:
        self.path = path
        self.id = identifier
        # What an operator should know of it.
        self.warnings = warnings
        self.runs = path / "runs"
        self._lock = lock
        self._runs_descriptor = os.open(self.runs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @classmethod
    def open(cls, path: Path) -> StateDirectory:
        """Make or take over the state directory. Raises StateDirectoryBusy, OSError."""
        path = path.absolute()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = files.try_lock(str(path / "agent.lock"))
        if lock is None:
            raise StateDirectoryBusy(f"{path} is used by another agent")
        try:
            (path / "runs").mkdir(mode=0o700, exist_ok=True)
            identifier, warning = state_copy.identify(path)
            for directory in (path / "runs", path / "runs" / _QUARANTINE, path / attempt_files.SHORT_SOCKETS):
                directory.mkdir(mode=0o700, exist_ok=True)
            return cls(path, lock, identifier, (warning,) if warning else ())
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        """Let another agent have it."""
        if self._lock >= 0:
            os.close(self._lock)
            os.close(self._runs_descriptor)
            self._lock = self._runs_descriptor = -1

    def path_of(self, run_id: str, epoch: int) -> Path:
        """The run directory of an attempt, there or not."""
        return self.runs / f"{run_id}.{epoch}"

    def accept(self, run_id: str, epoch: int, details: JsonObject) -> Path:
        """Write down, synced, that the attempt was accepted; its run directory. Doing it again changes nothing.

        `details` are the agent's own (slots, labels, ...) and must hold no secret. Raises OSError (disk full).
        """
        (error,) = self.accept_all((Acceptance(run_id=run_id, epoch=epoch, details=details),))
        if error is not None:
            raise error
        return self.path_of(run_id, epoch)

    def accept_all(self, acceptances: Sequence[Acceptance]) -> list[OSError | None]:
        """Write down that these were accepted, with one sync for all; for each, what went wrong.

        The directory's name says which attempt it is, and a name is there whole or not at all: if the power fails
        before the sync, nothing was promised yet, and if it fails later, the name is there.
        """
        errors = [self._write_acceptance(acceptance) for acceptance in acceptances]
        try:
            os.fsync(self._runs_descriptor)
        except OSError as error:
            return [error] * len(errors)
        return errors

    def _write_acceptance(self, acceptance: Acceptance) -> OSError | None:
        path = self.path_of(acceptance.run_id, acceptance.epoch)
        try:
            if acceptance.is_usual:
                os.mkdir(path, 0o700)
            elif not path.exists():
                self._write_unusual(acceptance, path)
        except FileExistsError as error:
            return None if path.is_dir() else error
        except OSError as error:
            return error
        return None

    def _write_unusual(self, acceptance: Acceptance, path: Path) -> None:
        """The directory gets its name when it is whole: until then it is one that goes at the next start."""
        body: JsonObject = {
            "version": attempt_files.FORMAT_VERSION, "run_id": acceptance.run_id, "epoch": acceptance.epoch,
            "accepted_at_ns": time.time_ns(), "boot_id": files.boot_id(), "details": acceptance.details,
        }  # fmt: skip
        unfinished = self.runs / f"{_GONE}{path.name}"
        _remove_tree(unfinished)
        unfinished.mkdir(mode=0o700)
        files.write_once(str(unfinished), "accept", files.encode_json(body))
        unfinished.rename(path)

    def scan(self) -> tuple[Entry, ...]:
        """Every attempt on this host, settled. Never fails for one directory: what cannot be read is quarantined.

        Dead shims are dealt with side by side. One that takes longer than SCAN_S is LIVE for now: look again.
        """
        paths = []
        for path in sorted(self.runs.iterdir()):
            if path.name.startswith(_GONE):
                _remove_tree(path)
            elif path.name != _QUARANTINE:
                paths.append(path)
        # What an agent that was killed has made and not synced is told of from now on: it should last first. A disk
        # that refuses must not keep us from what lives.
        with contextlib.suppress(OSError):
            os.fsync(self._runs_descriptor)
        # One that was just moved aside is listed below.
        entries = [entry for path, entry in self._scan_all(paths) if entry is not None and entry.path == path]
        return (*entries, *self._quarantined())

    def _scan_all(self, paths: Sequence[Path]) -> list[tuple[Path, Entry | None]]:
        threads = ThreadPoolExecutor(SCAN_THREADS, thread_name_prefix="scan")
        scans = [(path, threads.submit(self._scan_patiently, path)) for path in paths]
        wait([scan for _, scan in scans], timeout=SCAN_S)
        found = [(path, scan.result() if scan.done() else _late(path)) for path, scan in scans]
        # What has not begun is left to its actor; what has goes on, and its actor finds it done.
        threads.shutdown(wait=False, cancel_futures=True)
        return found

    def settle(self, run_id: str, epoch: int, *, patience_s: float = 0.0) -> Entry:
        """How one attempt stands now; call it after ShimGone (with a second of patience) or ShimRefused.

        `patience_s`: how long to wait for a shim to let go of its lock, which it holds a moment longer than its
        sockets, before the answer is LIVE. Raises FileNotFoundError, OSError.
        """
        path = self.path_of(run_id, epoch)
        deadline = time.monotonic() + patience_s
        while True:
            entry = self._scan_one(path) if path.exists() else None
            if entry is None:
                raise FileNotFoundError(path)
            if entry.standing is not Standing.LIVE or time.monotonic() >= deadline:
                return entry
            time.sleep(0.01)

    def release(self, run_id: str, epoch: int, *, patience_s: float | None = None) -> None:
        """Forget an attempt: remove its run directory. Nothing happens if there is none. Raises StillLive, OSError.

        `patience_s`: how long to wait for a shim to let go of it; by default RELEASE_WAIT_S.
        """
        path = self.path_of(run_id, epoch)
        try:
            names = os.listdir(path)
        except FileNotFoundError:
            return
        if "lock" in names:
            self._await_unlocked(path, RELEASE_WAIT_S if patience_s is None else patience_s)
        for cgroup in _cgroups_of(path, names):
            cgroup.remove()
        if protocol.CONTROL_SOCKET in names:
            attempt_files.remove_sockets(str(self.path), path.name, str(path))
        gone = self.runs / f"{_GONE}{path.name}"
        # Not synced: what a power cut brings back is listed again and released again.
        try:
            path.rename(gone)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # XFS says the latter
                raise
            remove_gone(gone, os.listdir(gone))
            path.rename(gone)
        remove_gone(gone, names)

    def _await_unlocked(self, path: Path, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while (lock := files.try_lock(str(path / "lock"))) is None:
            if time.monotonic() >= deadline:
                raise StillLive(f"{path.name} is still held by its shim")
            time.sleep(0.01)
        os.close(lock)

    def _scan_patiently(self, path: Path) -> Entry | None:
        """A shim whose agent has gone before it was told what to start leaves at once: it is waited for."""
        deadline = time.monotonic() + LEAVING_S
        while (entry := self._scan_one(path)) is not None and time.monotonic() < deadline:
            if entry.standing is not Standing.LIVE or os.path.lexists(path / attempt_files.IDENTITY):
                break
            time.sleep(0.01)
        return entry

    def _scan_one(self, path: Path) -> Entry | None:
        """None for a directory whose acceptance was never finished: nothing was promised."""
        try:
            run_id, epoch = _parse_name(path.name)
            acceptance = files.read_json(str(path), "accept")
            if acceptance is None and _was_never_finished(path):
                _remove_tree(path)
                return None
            standing, record = aftermath.settle(str(path), run_id, epoch)
        except BadMessage as error:
            return self._quarantine(path, str(error))
        except (ValueError, OverflowError) as error:  # damage of a kind that nobody has thought of
            return self._quarantine(path, f"it holds values that cannot be right: {error}")
        except OSError as error:
            return _set_apart(path, f"it cannot be read or settled now: {error}")
        return Entry(
            path=path, run_id=run_id, epoch=epoch, standing=standing, record=record, details=_details(acceptance)
        )  # fmt: skip

    def _quarantine(self, path: Path, message: str) -> Entry:
        """Move an unreadable directory aside; not while a shim lives in it, or while the disk refuses."""
        try:
            if path.is_dir():
                lock = files.try_lock(str(path / "lock"))
                if lock is None:
                    run_id, epoch = _name_or_nothing(path.name)
                    return Entry(
                        path=path, run_id=run_id, epoch=epoch, standing=Standing.LIVE, details={}, message=message
                    )
                os.close(lock)
                (path / _MESSAGE).write_text(message + "\n", encoding="utf-8")
            target = self.runs / _QUARANTINE / path.name
            if target.exists():
                target = target.with_name(f"{path.name}~{time.time_ns()}")
            path.rename(target)
        except OSError as error:
            return _set_apart(path, f"{message}; and it could not be moved aside: {error}")
        return _set_apart(target, message)

    def _quarantined(self) -> Iterator[Entry]:
        for path in sorted((self.runs / _QUARANTINE).iterdir()):
            try:
                message = (path / _MESSAGE).read_text(encoding="utf-8").strip()
            except OSError:
                message = "no reason was kept"
            yield _set_apart(path, message)


def _set_apart(path: Path, message: str) -> Entry:
    run_id, epoch = _name_or_nothing(path.name.partition("~")[0])
    return Entry(path=path, run_id=run_id, epoch=epoch, standing=Standing.QUARANTINED, details={}, message=message)


def remove_gone(path: Path, names: Sequence[str]) -> None:
    """Remove a directory that was moved out of the way; `names` were in it. What is left goes at the next start."""
    try:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(path, name))
        os.rmdir(path)
    except OSError:  # something of ours that is no file, or something that is not ours
        _remove_tree(path)


def _remove_tree(path: Path) -> None:
    """However deep: a run of our own user may have made directories in it. What is left goes at the next start."""
    with contextlib.suppress(OSError):
        remove_tree(str(path))


def _was_never_finished(path: Path) -> bool:
    """Whether an earlier version was writing the acceptance when it died: nothing was promised.

    Raises BadMessage if it is no run directory at all.
    """
    names = os.listdir(path)
    strange = sorted(name for name in names if not _is_ours(name))
    # A stray file beside a shim's own marks must not hide how the attempt ended.
    if strange and not _MARKS.intersection(names):
        raise BadMessage(f"it is no run directory: it has no acceptance, but {strange[0]!r}")
    return _UNFINISHED_MARK in names and set(names) <= _UNFINISHED


def _is_ours(name: str) -> bool:
    return name.removesuffix(".tmp").partition(".")[0] in _NAMES or name == _MESSAGE


def _late(path: Path) -> Entry:
    """One whose settling takes its time: nothing can be said yet."""
    run_id, epoch = _name_or_nothing(path.name)
    try:
        acceptance = files.read_json(str(path), "accept")
    except (BadMessage, OSError):
        acceptance = None
    return Entry(path=path, run_id=run_id, epoch=epoch, standing=Standing.LIVE, details=_details(acceptance))


def _details(acceptance: JsonObject | None) -> JsonObject:
    details = None if acceptance is None else acceptance.get("details")
    return details if isinstance(details, dict) else {}


def _parse_name(name: str) -> tuple[str, int]:
    run_id, _, epoch = name.rpartition(".")
    if not run_id or not epoch.isdecimal():
        raise BadMessage("the directory's name is not <run>.<epoch>")
    return run_id, int(epoch)


def _name_or_nothing(name: str) -> tuple[str, int]:
    try:
        return _parse_name(name)
    except BadMessage:
        return "", 0


def _cgroups_of(path: Path, names: Sequence[str]) -> list[Cgroup]:
    """The cgroups that its identities name, as far as they can be read and are there."""
    found = set()
    for name in names:
        if name.partition(".")[0] != "identity":
            continue
        try:
            identity = files.read_json(str(path), name)
        except (OSError, BadMessage):
            continue
        if identity is not None and isinstance(cgroup := identity.get("cgroup"), str):
            found.add(cgroup)
    return [cgroup for name in found if (cgroup := cgroups.at(name)) is not None]
