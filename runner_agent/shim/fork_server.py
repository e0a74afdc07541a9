"""The fork server: one small process per state directory, above its shims.

It is started once, outlives the agent, forks a shim per attempt (so that a start costs milliseconds and memory is
shared) and is the subreaper above them: every child of it that is not a live shim is what a dead shim left, and is
killed. A new agent adopts it. `retire` makes it give up its place and leave with its last shim; so does being of no use
for a minute: no shim, and no connection, of which an agent keeps one for as long as it lives.

Started by `python -I -S -c "<append the package's directory to sys.path>; main()" STATE_DIRECTORY BUILD cgroups`.
"""

from __future__ import annotations

# Not all of these are for this file: what the others need of the standard library is loaded first, so that our own
# modules, which a shim works with and so copies, lie close together behind it.
import base64  # noqa: F401
import binascii  # noqa: F401
import collections.abc  # noqa: F401
import contextlib
import ctypes  # noqa: F401
import errno
import fcntl
import gc
import hashlib  # noqa: F401
import json  # noqa: F401
import marshal  # noqa: F401
import os
import resource
import select  # noqa: F401
import signal
import socket
import struct  # noqa: F401
import sys
import time
import zlib  # noqa: F401

from runner_agent.shim import cgroups, codec, files, protocol, tree
from runner_agent.shim.attempt_files import RUNS, MaskRequest
from runner_agent.shim.codec import BadMessage, JsonObject
from runner_agent.shim.dress_rehearsal import rehearse_dressed
from runner_agent.shim.linux import become_subreaper
from runner_agent.shim.loop import READ, Loop, SignalPipe, let_pass
from runner_agent.shim.messages import AttemptStart
from runner_agent.shim.orphans import Orphans
from runner_agent.shim.peers import refuse
from runner_agent.shim.protocol import ALREADY_ACTIVE
from runner_agent.shim.rehearsal import rehearse, start_frame
from runner_agent.shim.spares import BUSY_S, Shims

LOCK = "fork.lock"
LOG = "fork_server.log"
MAX_CONNECTIONS = 256
QUIET_S = 0.005
IDLE_S = 60.0
COLLECT_AFTER = 20_000  # objects: a long attempt is tidied up now and then, a short one never
REHEARSALS = 12  # Python looks at a function some times before it settles on how to run it
_MAX_LOG_BYTES = 1 << 20


class ForkServer:
    """One loop over the listening socket, young connections and the ends of children."""

    def __init__(self, state_directory: str, build: str, lock: int, *, use_cgroups: bool) -> None:
        self._build = build
        self._lock = lock
        self._loop = Loop()
        self._shims = Shims(state_directory, oom_score=_oom_score(), use_cgroups=use_cgroups)
        self._orphans = Orphans(self._shims.names, use_cgroups=use_cgroups)
        self._young: dict[int, socket.socket] = {}
        self._retiring = False
        self._child_ended = True
        self._useless_since_s: float | None = None
        self._listener: socket.socket | None = protocol.listen(protocol.FORK_SERVER_SOCKET)
        self._loop.watch(self._listener.fileno(), READ, self._accept)
        self._signals = SignalPipe((signal.SIGCHLD, signal.SIGTERM))
        self._loop.watch(self._signals.descriptor, READ, self._on_signals)

    def run(self) -> None:
        """Until it has retired and its last shim is gone."""
        while not (self._retiring and not self._shims.names and not self._orphans.pids()):
            busy = self._loop.turn(self._timeout_s())
            if self._child_ended or not busy or not self._orphans.are_dealt_with:
                self._tend()
            now_s = time.monotonic()
            self._retire_if_useless(now_s)
            if not busy and self._wants_spares(now_s):
                self._shims.fork_spares(now_s)
            elif not busy:
                self._shims.dismiss_spares(kept=1)

    def _timeout_s(self) -> float:
        if not self._orphans.are_dealt_with:
            return 0.01
        now_s = time.monotonic()
        if self._wants_spares(now_s):
            return QUIET_S
        if self._shims.has_spares_to_dismiss or self._shims.was_refused(now_s):
            return BUSY_S
        return 30.0 if self._useless_since_s is None else min(30.0, IDLE_S / 4)

    def _wants_spares(self, now_s: float) -> bool:
        return not self._retiring and self._shims.wants_spares(now_s)

    def _retire_if_useless(self, now_s: float) -> None:
        """An agent that was killed may never come back; one that does come starts another fork server."""
        if self._young or self._shims.at_work or self._retiring or not self._orphans.are_dealt_with:
            self._useless_since_s = None
        elif self._useless_since_s is None:
            self._useless_since_s = now_s
        elif now_s - self._useless_since_s >= IDLE_S:
            self._retire()

    # ---- connections

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                signal.sigtimedwait((), 0.05)
            return
        if not protocol.peer_is_us(connection) or len(self._young) >= MAX_CONNECTIONS:
            connection.close()
            return
        connection.setblocking(False)
        descriptor = connection.fileno()
        self._young[descriptor] = connection
        self._loop.watch(descriptor, READ, lambda: self._read(descriptor))

    def _read(self, descriptor: int) -> None:
        connection = self._young[descriptor]
        try:
            # No more than that: a start follows, whose secrets are for the shim alone.
            frame = protocol.receive_frame(connection, protocol.REQUEST_BYTES)
            if frame is not None:
                self._serve(connection, frame)
        except BlockingIOError:
            return
        except (OSError, BadMessage):
            frame = None
        if frame is None and descriptor in self._young:
            self._forget(descriptor)
            connection.close()

    def _forget(self, descriptor: int) -> None:
        self._loop.forget(descriptor)
        del self._young[descriptor]

    def _serve(self, connection: socket.socket, frame: JsonObject) -> None:
        match frame["type"]:
            case "hello":
                body: JsonObject = {"build": self._build, "pid": os.getpid(), "version": protocol.PROTOCOL_VERSION}
                connection.send(protocol.encode_frame("fork_server", body))
            case "retire":
                self._retire()
                connection.send(protocol.encode_frame("retiring"))
            case "fork":
                self._fork(connection, frame)
            case _:
                raise BadMessage("unknown request")

    def _retire(self) -> None:
        """Give the place up at once; a new fork server may take it before this one has left."""
        if self._retiring:
            return
        self._retiring = True
        if self._listener is not None:
            self._loop.forget(self._listener.fileno())
            self._listener.close()
            self._listener = None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(protocol.FORK_SERVER_SOCKET)
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        self._shims.dismiss_spares()

    # ---- shims

    def _fork(self, connection: socket.socket, frame: JsonObject) -> None:
        self._forget(connection.fileno())
        name = frame.get("run_directory")
        refusal = self._refusal(frame, name)
        if refusal is not None:
            refuse(connection, *refusal)
            connection.close()
            return
        try:
            self._shims.start(connection, str(name), time.monotonic())
        except OSError as error:
            refuse(connection, "FORK", f"no shim could be forked: {error.strerror}")
        connection.close()

    def _refusal(self, frame: JsonObject, name: object) -> tuple[str, str] | None:
        if not protocol.speaks_with(frame):
            return "VERSION", f"the fork server speaks version {protocol.PROTOCOL_VERSION}"
        if self._retiring:
            return "RETIRING", "the fork server is retiring"
        if not isinstance(name, str) or "/" in name or name.startswith(".") or not os.path.isdir(f"{RUNS}/{name}"):
            return "NO_DIRECTORY", "there is no such run directory"
        return None

    def _on_signals(self) -> None:
        numbers = self._signals.read()
        self._child_ended = self._child_ended or signal.SIGCHLD in numbers
        if signal.SIGTERM in numbers:
            self._retire()

    def _tend(self) -> None:
        """Reap, and deal with what dead shims have left; only the end of a child can leave anything."""
        self._child_ended = False
        reaped = False
        for ended in tree.reap():
            reaped = True
            name = self._shims.ended(ended.pid, time.monotonic())
            if name is not None and ended.exit_code != 0:
                _bound_log()
                self._orphans.left_by(name, ended.pid)
        if reaped or not self._orphans.are_dealt_with:
            self._orphans.tend()


def main() -> None:
    """Detach, take the place, tell the starter how that went (exit status), serve."""
    state_directory, build, kind = sys.argv[1:4]
    os.chdir(state_directory)
    starter_end, our_end = os.pipe2(os.O_CLOEXEC)
    if os.fork() != 0:
        os.close(our_end)
        answer = os.read(starter_end, 1)
        os._exit(answer[0] if answer else 1)
    os.close(starter_end)
    with contextlib.suppress(PermissionError):
        os.setsid()
    lock = files.try_lock(LOCK)
    if lock is None:
        os.write(our_end, bytes([ALREADY_ACTIVE]))
        os._exit(ALREADY_ACTIVE)
    _redirect()
    _settle_for_children()
    become_subreaper()
    use_cgroups = kind == "cgroups"
    _rehearse(use_cgroups=use_cgroups)
    server = ForkServer(os.getcwd(), build, lock, use_cgroups=use_cgroups)
    os.write(our_end, b"\0")
    os.close(our_end)
    _settle_memory()
    server.run()


def _rehearse(*, use_cgroups: bool) -> None:
    """What every shim would do to its memory is done once, before the first fork: what it only reads stays shared."""
    codec.warm(AttemptStart, MaskRequest)
    if use_cgroups:
        cgroups.remove_left_behind()
    rehearse_dressed(use_cgroups=use_cgroups)
    masked = start_frame(masks=(b"a rehearsal",))
    for _ in range(REHEARSALS):
        rehearse(masked)
        rehearse()


def _settle_memory() -> None:
    """A collection would write to every object: from here on none looks at those that are there now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


def _settle_for_children() -> None:
    """What children have to start with is set once, here: each then has it without a call of its own.

    A signal with a handler is back to its default after exec, an ignored one would stay ignored for the program.
    """
    let_pass({signal.SIGPIPE, signal.SIGHUP, signal.SIGINT, signal.SIGXFSZ})
    let_pass(number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _redirect() -> None:
    """Nothing of the starter's is kept open; what goes wrong later is written to a log of bounded size."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    log = os.open(LOG, flags, 0o600)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(log, 2)
    os.close(log)
    os.close(null)
    _bound_log()


def _bound_log() -> None:
    """Begin the log anew when it is long. Looked at whenever a shim has died, which is what is written there."""
    with contextlib.suppress(OSError):
        if os.fstat(2).st_size > _MAX_LOG_BYTES:
            os.ftruncate(2, 0)


def _oom_score() -> str:
    """The score that we were started with, for children: we and the shims are spared. Empty if that is not allowed."""
    inherited = files.read_kernel("/proc/self/oom_score_adj").decode("ascii").strip()
    try:
        files.write_kernel("/proc/self/oom_score_adj", "-500")
    except OSError:
        return ""
    return inherited
