"""What a shim makes ready in its run directory before it is told what to start there: all that needs no start.

A shim may come to an attempt that is only accepted, so none of this says that the attempt was used: who gives it back
leaves nothing behind, and what a killed one leaves (an empty identity, blocks set aside, sockets) counts as untouched.
"""

from __future__ import annotations

import os
import socket

from runner_agent.shim import attempt_files, files, protocol
from runner_agent.shim.states import Begun


class Ground:
    """A run directory in which the shim works, under its lock if nobody else holds that."""

    def __init__(self, place: attempt_files.Place) -> None:
        self._place = place
        self._lock = files.try_lock("lock")
        # Nobody leaves a tombstone or a mark of use without the lock: what is so now stays so while we hold it.
        there = os.listdir(".")
        used = attempt_files.was_used(".", there)
        self.begun = Begun(locked=self._lock is not None, tombstone="tombstone" in there, used=used)
        # Why it could not be prepared.
        self.trouble: OSError | None = None
        self.control: socket.socket | None = None
        self.run_socket: tuple[str, socket.socket] | None = None
        self._identity = -1
        if self.is_ours:
            try:
                self._prepare()
            except OSError as error:
                self.trouble = error

    @property
    def is_ours(self) -> bool:
        """Whether an attempt may be started here, by us."""
        return self.begun.locked and not self.begun.tombstone and not self.begun.used

    def _prepare(self) -> None:
        """The identity's name survives a power cut from here on, so that only its content has to be synced later."""
        files.reserve(".")
        self._identity = files.set_out(".", attempt_files.IDENTITY)
        self.control = protocol.listen(protocol.CONTROL_SOCKET, backlog=16)
        path = self._place.make_run_socket_path()
        self.run_socket = path, protocol.listen(path)
        files.sync_directory(".")

    def store_identity(self, data: bytes) -> None:
        """Make the first child's identity last. Raises OSError; and then nothing may be executed."""
        files.put_in(self._identity, ".", attempt_files.IDENTITY, data)

    def give_back(self) -> None:
        """Nothing will be started here: leave it as it was found. Whoever takes the lock next finds it so."""
        if self.is_ours:
            for listener in (self.control, None if self.run_socket is None else self.run_socket[1]):
                if listener is not None:
                    listener.close()
            if self.run_socket is not None:
                attempt_files.remove_socket(self.run_socket[0])
            for name in (protocol.CONTROL_SOCKET, files.RESERVE, files.temporary(attempt_files.IDENTITY)):
                attempt_files.remove_socket(name)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
