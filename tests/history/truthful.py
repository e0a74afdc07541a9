"""A run's program that tells the truth about itself: what it did under which lease epoch, when, and that it lives.

argv: place, plan (JSON, see `plan`). It appends JSON lines to <place>/truth: "start", "beat", "signal" (it got one),
"stop" (bytes and SHA-256 of each stream), "overlap" (another attempt of its run lives), "broken" (nobody reads it).
In <place>/<run>/ it keeps a flock on <epoch>.<step>.main.<pid>.lock for as long as it lives, and counts what it
wrote in <epoch>.<step>.wrote. With a tail it leaves a process in a session of its own that ignores SIGTERM and holds
<epoch>.<step>.tail.<pid>.lock. Only the standard library and few imports: it runs as a file, often.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

STREAMS = {1: "out", 2: "err"}
DEFAULTS = {
    "name": "",  # what its bytes are made of; unique in one test
    "step": 0,
    "pieces": 90,
    "sizes": [0, 10, 100, 3_000, 20_000],
    "pause_s": 0.01,  # after each piece
    "beat": 15,  # a line of truth after so many pieces
    "code": 0,
    "tail": False,
    "deaf": False,  # ignores SIGTERM
}


def plan(**given: Any) -> dict[str, Any]:
    """A whole plan of one step; what is not given is a default."""
    unknown = set(given) - set(DEFAULTS)
    if unknown:
        raise TypeError(f"a plan has no {', '.join(sorted(unknown))}")
    return {**DEFAULTS, **given}


def argv(place: str | os.PathLike[str], made: dict[str, Any]) -> list[str]:
    """The command line of a step with this plan."""
    return [sys.executable, "-I", "-S", __file__, os.fspath(place), json.dumps(made)]


def pieces(made: dict[str, Any], only: int = 0) -> Iterator[tuple[int, bytes]]:
    """(descriptor, bytes) in the order of writing: standard output and standard error in turn, or one alone."""
    sizes = made["sizes"]
    for number in range(only - 1 if only else 0, made["pieces"], 2 if only else 1):
        head = b"%s %d %d " % (made["name"].encode(), made["step"], number)
        chance = hashlib.shake_128(head)
        size = sizes[chance.digest(1)[0] % len(sizes)]
        yield 1 + number % 2, head + chance.digest(size) + b"\n"


def alive(place: str | os.PathLike[str], run: str, epoch: int | None = None, other: bool = False) -> list[str]:
    """Lock files of the run's processes that live: of this epoch, of all others than this, or of any (None)."""
    folder = os.path.join(place, run)
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        if name.endswith(".lock") and (epoch is None or (int(name.partition(".")[0]) == epoch) is not other):
            descriptor = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                # Shared: two who look at the same time do not see each other.
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(name)
            finally:
                os.close(descriptor)
    return found


class Truth:
    """The file of lines, and this process's name in it."""

    def __init__(self, place: str, made: dict[str, Any]) -> None:
        self.place = place
        self.run = os.environ["BANKSMAN_RUN_ID"]
        self.epoch = int(os.environ["BANKSMAN_LEASE_EPOCH"])
        self.step = made["step"]
        self.folder = f"{place}/{self.run}"
        os.makedirs(self.folder, 0o700, exist_ok=True)
        self._file = os.open(f"{place}/truth", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def say(self, word: str, **more: object) -> None:
        line = {
            "word": word,
            "run": self.run,
            "epoch": self.epoch,
            "step": self.step,
            "pid": os.getpid(),
            "mono": time.monotonic(),
            "boot": time.clock_gettime(time.CLOCK_BOOTTIME),
            **more,
        }
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def hold(self, kind: str) -> None:
        """Be seen alive until the end of this process."""
        path = f"{self.folder}/{self.epoch}.{self.step}.{kind}.{os.getpid()}.lock"
        fcntl.flock(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)


def leave_a_tail(truth: Truth) -> None:
    """A process in another session, with another parent and nothing of ours open; returns once it holds its lock."""
    ready, done = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.closerange(0, done)
            os.closerange(done + 1, 256)
            truth.hold("tail")
            os.write(done, b"!")
            os.close(done)
            while True:
                signal.pause()
        os._exit(0)
    os.close(done)
    os.read(ready, 1)
    os.close(ready)
    os.wait()


def listen(truth: Truth, deaf: bool) -> None:
    """Say at once which signal came; then die of it, unless deaf."""

    def heard(number: int, _frame: object) -> None:
        truth.say("signal", number=number)
        if not deaf:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, heard)


def write(truth: Truth, made: dict[str, Any]) -> dict[str, list[object]]:
    """Write all pieces; returns bytes and SHA-256 by stream."""
    digests = {1: hashlib.sha256(), 2: hashlib.sha256()}
    wrote = {1: 0, 2: 0}
    counted = os.open(f"{truth.folder}/{truth.epoch}.{truth.step}.wrote", os.O_WRONLY | os.O_CREAT, 0o600)
    for number, (descriptor, data) in enumerate(pieces(made)):
        digests[descriptor].update(data)
        left = memoryview(data)
        while left:
            written = os.write(descriptor, left)
            left = left[written:]
            wrote[descriptor] += written
            os.pwrite(counted, b"%020d %020d" % (wrote[1], wrote[2]), 0)
        if number % made["beat"] == made["beat"] - 1:
            truth.say("beat", pieces=number + 1)
        if made["pause_s"]:
            time.sleep(made["pause_s"])
    return {name: [wrote[descriptor], digests[descriptor].hexdigest()] for descriptor, name in STREAMS.items()}


def main() -> NoReturn:
    """Write the pieces, and say so."""
    place, made = sys.argv[1], json.loads(sys.argv[2])
    truth = Truth(place, made)
    truth.hold("main")
    listen(truth, made["deaf"])
    others = alive(place, truth.run, truth.epoch, other=True)
    if others:
        truth.say("overlap", others=others)
    truth.say("start")
    if made["tail"]:
        leave_a_tail(truth)
    try:
        wrote = write(truth, made)
    except BrokenPipeError:
        truth.say("broken")
        sys.exit(98)
    truth.say("stop", **wrote)
    sys.exit(made["code"])


if __name__ == "__main__":
    main()
