"""The real fork server and its shims with points in them; the runner with points starts it in the product's place.

Standard library only, like what it wraps.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from runner_agent.shim import files, fork_server, shim, tree
from runner_agent.shim.clearing import Clearing
from runner_agent.shim.orphans import Orphans
from runner_agent.shim.spares import Shims
from runner_agent.shim.spool import Spool
from runner_agent.shim.streams import StepStreams
from tests.failpoints.points import reach

IDLE = "FAILPOINT_IDLE_S"
# The file of a run directory that is being written, while it is.
_writing = ""


def install() -> None:
    """Put the points in; and a test need not wait a minute for a fork server that is of no use."""
    fork_server.rehearse_dressed = lambda *, use_cgroups: None  # it would come by the points
    fork_server.IDLE_S = float(os.environ.get(IDLE, fork_server.IDLE_S))
    _in_files()
    _in_shims()
    _in_ladder()
    _in_fork_server()


def _in_files() -> None:
    write_once, write_exit, try_lock = files.write_once, files.write_exit, files.try_lock
    reserve, put_in = files.reserve, files.put_in
    rename = os.rename

    def written(directory: str, name: str, data: bytes, *, sync: bool = True) -> None:
        global _writing
        word = name.partition(".")[0]
        _writing = word
        try:
            write_once(directory, name, data, sync=sync)
        finally:
            _writing = ""
        reach(f"shim.{word}.stored")

    def reserved(directory: str) -> None:
        reserve(directory)
        reach("shim.prepared")

    def filled(descriptor: int, directory: str, name: str, data: bytes) -> None:
        global _writing
        _writing = name
        try:
            put_in(descriptor, directory, name, data)
        finally:
            _writing = ""
        reach(f"shim.{name}.stored")

    def exit_written(directory: str, data: bytes) -> None:
        global _writing
        reach("shim.exit.before_write")
        _writing = "exit"
        try:
            write_exit(directory, data)
        finally:
            _writing = ""
        reach("shim.exit.stored")

    def renamed(source: Any, target: Any, **options: Any) -> None:
        if _writing:
            reach(f"shim.{_writing}.before_rename")
        rename(source, target, **options)

    def locked(path: str, *, create: bool = True) -> int | None:
        lock = try_lock(path, create=create)
        if path == "lock":
            reach("shim.locked")
        return lock

    files.write_once, files.write_exit, files.try_lock = written, exit_written, locked
    files.reserve, files.put_in = reserved, filled
    os.rename = renamed
    os.fsync, os.fdatasync = _pointed(os.fsync), _pointed(os.fdatasync)


def _pointed(sync: Callable[[int], None]) -> Callable[[int], None]:
    def synced(descriptor: int) -> None:
        if _writing:
            reach(f"shim.{_writing}.before_fsync")
        sync(descriptor)

    return synced


def _in_shims() -> None:
    release, finish, append = StepStreams.release, Spool.finish, Spool.append
    leave, reap, tell = shim.Shim._leave, shim.Shim._reap, shim.Shim._tell
    store_identity = shim.Shim._store_identity

    def released(self: StepStreams) -> None:
        reach("shim.child.before_release")
        release(self)
        reach("shim.child.released")

    def finished(self: Spool) -> Any:
        result = finish(self)
        reach("shim.spool.synced")
        return result

    def appended(self: Spool, *arguments: Any, **options: Any) -> Any:
        result = append(self, *arguments, **options)
        reach("shim.spool.appended")
        return result

    def left(self: Any, order: Any) -> None:
        reach("shim.child.ended")
        leave(self, order)
        reach("shim.left")

    def reaped(self: Any) -> None:
        before = self._state.leader_gone
        reap(self)
        if not before and any(isinstance(event, shim.LeaderExited) for event in self._waiting):
            reach("shim.child.reaped")

    def told(self: Any, order: Any) -> None:
        if isinstance(order.event, shim.StepEnded):
            reach("shim.step.ended")
        tell(self, order)

    def stored(self: Any, order: Any) -> None:
        reach("shim.child.forked")
        store_identity(self, order)

    StepStreams.release, Spool.finish, Spool.append = released, finished, appended
    shim.Shim._leave, shim.Shim._reap, shim.Shim._tell = left, reaped, told
    shim.Shim._store_identity = stored


def _in_ladder() -> None:
    begin, go_round, signal_tree = Clearing.__init__, Clearing.round, tree.signal_tree

    def begun(self: Any, *arguments: Any) -> None:
        begin(self, *arguments)
        reach("shim.clearing.begun")

    def rounded(self: Clearing) -> None:
        killed = self._rounds
        go_round(self)
        if self._rounds != killed:
            reach("shim.clearing.round")

    def signalled(*arguments: Any) -> None:
        reach("shim.stop.before_signal")
        signal_tree(*arguments)
        reach("shim.stop.signalled")

    Clearing.__init__, Clearing.round = begun, rounded
    tree.signal_tree = signalled


def _in_fork_server() -> None:
    server = fork_server.ForkServer
    fork, bear_witness, run, hand = server._fork, Orphans._bear_witness, server.run, Shims._hand_to_spare
    retire = server._retire

    def forked(self: Any, *arguments: Any) -> None:
        reach("fork_server.fork.before")
        fork(self, *arguments)
        reach("fork_server.fork.after")

    def handed(self: Any, *arguments: Any) -> bool:
        result = hand(self, *arguments)
        reach("fork_server.fork.handed" if result else "fork_server.fork.no_spare")
        return result

    def witnessed(self: Any) -> None:
        dead = any(item.name for item in self._dead)
        if dead:
            reach("fork_server.witness.before")
        bear_witness(self)
        if dead:
            reach("fork_server.witness.after")

    def ran(self: Any) -> None:
        reach("fork_server.started")
        run(self)

    def retired(self: Any) -> None:
        if not self._retiring:
            reach("fork_server.retire.before")
        retire(self)
        reach("fork_server.retire.after")

    server._fork, Orphans._bear_witness, server._retire = forked, witnessed, retired
    server.run, Shims._hand_to_spare = ran, handed


def main() -> None:
    """The product's own main, with points."""
    install()
    fork_server.main()
