"""The fork server: one small process per state directory, above its shims.

It is started once, outlives the agent, forks a shim per attempt (so that a start costs milliseconds and memory is
shared) and is the subreaper above them: every child of it that is not a live shim is what a dead shim left, and is
killed. A new agent adopts it. `retire` makes it give up its place and leave with its last shim; so does being of no use
for a minute: no shim, and no connection, of which an agent keeps one for as long as it lives.

Started by `python -I -S -c "<append the package's directory to sys.path>; main()" STATE_DIRECTORY BUILD cgroups`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass

from runner_agent.shim import cgroups, codec, files, protocol, tree
from runner_agent.shim.attempt_files import RUNS, MaskRequest, Place
from runner_agent.shim.codec import BadMessage, JsonObject
from runner_agent.shim.linux import become_subreaper
from runner_agent.shim.loop import READ, Loop, SignalPipe
from runner_agent.shim.messages import AttemptStart
from runner_agent.shim.peers import refuse
from runner_agent.shim.protocol import ALREADY_ACTIVE
from runner_agent.shim.serve import serve, wait_and_serve

LOCK = "fork.lock"
LOG = "fork_server.log"
MAX_CONNECTIONS = 256
QUIET_S = 0.02
IDLE_S = 60.0
_MAX_LOG_BYTES = 1 << 20


@dataclass(slots=True)
class _DeadShim:
    """A shim that ended without finishing: its orphans are being killed. A spare one has no name yet."""

    name: str
    shim_pid: int
    killed: int = 0


class ForkServer:
    """One loop over the listening socket, young connections and the ends of children."""

    def __init__(self, state_directory: str, build: str, lock: int, *, use_cgroups: bool) -> None:
        self._state_directory = state_directory
        self._build = build
        self._lock = lock
        self._use_cgroups = use_cgroups
        self._boot_id = files.boot_id()
        self._oom_score = _oom_score()
        self._loop = Loop()
        self._shims: dict[int, str] = {}
        self._dead: list[_DeadShim] = []
        self._young: dict[int, tuple[socket.socket, protocol.FrameBuffer]] = {}
        self._retiring = False
        self._spare: tuple[int, socket.socket] | None = None
        self._useless_since_s: float | None = None
        self._listener: socket.socket | None = protocol.listen(protocol.FORK_SERVER_SOCKET)
        self._loop.watch(self._listener.fileno(), READ, self._accept)
        self._signals = SignalPipe((signal.SIGCHLD, signal.SIGTERM))
        self._loop.watch(self._signals.descriptor, READ, self._on_signals)

    def run(self) -> None:
        """Until it has retired and its last shim is gone."""
        if self._use_cgroups:
            cgroups.remove_left_behind()
        while not (self._retiring and not self._shims and not self._orphans()):
            busy = self._loop.turn(self._timeout_s())
            self._tend()
            self._retire_if_useless(time.monotonic())
            if not busy and self._spare is None and not self._retiring:
                self._fork_spare()

    def _timeout_s(self) -> float:
        if self._dead:
            return 0.01
        longest_s = 30.0 if self._useless_since_s is None else min(30.0, IDLE_S / 4)
        return longest_s if self._spare is not None or self._retiring else QUIET_S

    def _retire_if_useless(self, now_s: float) -> None:
        """An agent that was killed may never come back; one that does come starts another fork server."""
        if self._young or any(self._shims.values()) or self._retiring or self._dead:
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
        self._young[descriptor] = (connection, protocol.FrameBuffer())
        self._loop.watch(descriptor, READ, lambda: self._read(descriptor))

    def _read(self, descriptor: int) -> None:
        connection, frames = self._young[descriptor]
        try:
            data = connection.recv(64 << 10)
            frames.feed(data)
            frame = frames.next_frame() if data else None
            if frame is not None:
                self._serve(connection, frame)
        except BlockingIOError:
            return
        except (OSError, BadMessage):
            data = b""
        if not data and descriptor in self._young:
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
        if self._spare is not None:
            self._spare[1].close()  # which makes it leave
            self._spare = None

    # ---- shims

    def _fork(self, connection: socket.socket, frame: JsonObject) -> None:
        self._forget(connection.fileno())
        name = frame.get("run_directory")
        refusal = self._refusal(frame, name)
        if refusal is not None:
            refuse(connection, *refusal)
            connection.close()
            return
        if not self._hand_to_spare(connection, str(name)):
            try:
                pid = self._fork_shim(connection, str(name))
            except OSError as error:
                refuse(connection, "FORK", f"no shim could be forked: {error.strerror}")
            else:
                self._shims[pid] = str(name)
        connection.close()

    def _hand_to_spare(self, connection: socket.socket, name: str) -> bool:
        """Give the attempt to the shim that was forked ahead; False if there is none."""
        if self._spare is None:
            return False
        (pid, channel), self._spare = self._spare, None
        try:
            socket.send_fds(channel, [name.encode()], [connection.fileno()])
        except OSError:
            return False  # it has died, and will be reaped
        finally:
            channel.close()
        self._shims[pid] = name
        return True

    def _fork_spare(self) -> None:
        """Fork a shim ahead, in a quiet moment."""
        ours, theirs = socket.socketpair()
        try:
            pid = self._fork_shim(theirs, "")
        except OSError:
            ours.close()  # the next start will say so, if it is still true
        else:
            self._shims[pid] = ""
            self._spare = (pid, ours)
        theirs.close()

    def _refusal(self, frame: JsonObject, name: object) -> tuple[str, str] | None:
        if not protocol.speaks_with(frame):
            return "VERSION", f"the fork server speaks version {protocol.PROTOCOL_VERSION}"
        if self._retiring:
            return "RETIRING", "the fork server is retiring"
        if not isinstance(name, str) or "/" in name or name.startswith(".") or not os.path.isdir(f"{RUNS}/{name}"):
            return "NO_DIRECTORY", "there is no such run directory"
        return None

    def _fork_shim(self, connection: socket.socket, name: str) -> int:
        """Fork a shim for the agent at the other end, or a spare one if `name` is empty. Raises OSError."""
        guard = os.getpid()
        pid = os.fork()
        if pid != 0:
            return pid
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            descriptor = connection.detach()
            os.closerange(3, descriptor)
            os.closerange(descriptor + 1, 1 << 20)
            place = Place(
                state_directory=self._state_directory, name=name, shim_pid=os.getpid(), guard_pid=guard,
                boot_id=self._boot_id, oom_score=self._oom_score, use_cgroups=self._use_cgroups,
            )  # fmt: skip
            life = serve if name else wait_and_serve
            life(socket.socket(fileno=descriptor), place)
            code = 0
        except BaseException:  # noqa: BLE001 - the last frame of a process: say what happened and leave
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)

    def _on_signals(self) -> None:
        if signal.SIGTERM in self._signals.read():
            self._retire()

    def _tend(self) -> None:
        """Reap; kill what dead shims have left; say so in their directories when nothing of it is left."""
        for ended in tree.reap():
            name = self._shims.pop(ended.pid, None)
            if self._spare is not None and self._spare[0] == ended.pid:
                self._spare[1].close()
                self._spare = None
            if name is not None and ended.exit_code != 0:
                self._dead.append(_DeadShim(name, ended.pid))
        if not self._orphans():
            self._bear_witness()
            return
        casualties = tree.Casualties()
        tree.kill_round(os.getpid(), casualties, spared=frozenset(self._shims))
        if not self._dead:
            self._dead.append(_DeadShim("", 0))  # a shim gave up on them: keep looking until they are gone
        for dead in self._dead:
            dead.killed += len(casualties.killed)

    def _orphans(self) -> list[int]:
        """Children that are no live shim.

        ECHILD would be the kernel's word that nothing is left, but live shims are children too. This list is as good
        a word: when a process dies, the kernel gives its children to us before our wait can see its end, and only our
        own wait takes one off our list. So what a dead shim leaves is never off it, between any two reads, until we
        have waited for the last of it; one that we may not kill (another user's) stays on it, and nothing is proven.
        """
        return [pid for pid in tree.children(os.getpid()) if pid not in self._shims]

    def _list_is_ours(self) -> bool:
        """Whether /proc shows this process's own children: all that we have not waited for, and none is ECHILD."""
        listed = tree.children(os.getpid())
        return all(pid in listed for pid in self._shims) and (bool(self._shims) or not tree.has_children())

    def _bear_witness(self) -> None:
        if not self._dead:
            return
        if self._use_cgroups:
            cgroups.remove_left_behind()
        proven = self._list_is_ours()
        for dead in self._dead:
            if not dead.name:
                continue
            body: JsonObject = {"version": 1, "shim_pid": dead.shim_pid, "tree_empty": proven, "killed": dead.killed}
            try:
                files.write_once(os.path.join(RUNS, dead.name), "swept", files.encode_json(body))
            except FileNotFoundError:
                continue  # released meanwhile: nobody asks any more
            except OSError as error:
                os.write(2, f"fork server: {dead.name}: {error}\n".encode())
        self._dead = []


def main() -> None:
    """Detach, take the place, tell the starter how that went (exit status), serve."""
    state_directory, build, cgroups = sys.argv[1:4]
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
    for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    become_subreaper()
    server = ForkServer(os.getcwd(), build, lock, use_cgroups=cgroups == "cgroups")
    os.write(our_end, b"\0")
    os.close(our_end)
    codec.warm(AttemptStart, MaskRequest)
    gc.collect()
    gc.freeze()
    server.run()


def _redirect() -> None:
    """Nothing of the starter's is kept open; what goes wrong later is written to a log of bounded size."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    log = os.open(LOG, flags, 0o600)
    if os.fstat(log).st_size > _MAX_LOG_BYTES:
        os.ftruncate(log, 0)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(log, 2)
    os.close(log)
    os.close(null)


def _oom_score() -> str:
    """Children get the score that we were started with; we and the shims are spared while that is allowed."""
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        inherited = file.read().strip()
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("-500")
    return inherited
