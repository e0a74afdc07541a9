"""A run's program that tells the truth about itself: what it did under which lease epoch, and that it lives.

argv: place, name, step, pieces, exit code, "tail" or "". It holds the flock on <place>/<name>.lock, appends "start",
"beat", "stop" (or "overlap") lines to <place>/truth, and counts what it wrote to each stream in <place>/<name>.wrote.
With "tail" it leaves a process behind in a session of its own, which ignores SIGTERM and holds <place>/<name>.tail.
Only the standard library: it runs as a file, and the tests import `streams` from it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from typing import NoReturn

SIZES = (0, 10, 100, 3_000, 20_000)
PAUSE_S = 0.01
BEAT = 15


def pieces(name: str, step: int, count: int) -> Iterator[tuple[int, bytes]]:
    """(descriptor, bytes) in the order of writing: numbered lines, then each stream's digest."""
    chance = random.Random(f"{name} {step}")
    digests = {1: hashlib.sha256(), 2: hashlib.sha256()}
    for number in range(count):
        data = b"%s %d %d " % (name.encode(), step, number) + chance.randbytes(chance.choice(SIZES)) + b"\n"
        digests[1 + number % 2].update(data)
        yield 1 + number % 2, data
    for descriptor, digest in digests.items():
        yield descriptor, digest.hexdigest().encode() + b"\n"


def streams(name: str, steps: int, count: int) -> dict[int, bytes]:
    """All that the run's steps write to standard output (1) and standard error (2)."""
    found = {1: b"", 2: b""}
    for step in range(steps):
        for descriptor, data in pieces(name, step, count):
            found[descriptor] += data
    return found


def hold(path: str) -> int | None:
    """Take the lock; None if another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return descriptor


def leave_a_tail(path: str) -> None:
    """A process in another session, with another parent and nothing of ours open."""
    if os.fork() != 0:
        return
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 256)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        hold(path)
        while True:
            signal.pause()
    os._exit(0)


def main() -> NoReturn:
    """Write the pieces, and say so."""
    place, name = sys.argv[1:3]
    step, count, code = map(int, sys.argv[3:6])
    truth = os.open(f"{place}/truth", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    epoch = os.environ["BANKSMAN_LEASE_EPOCH"]

    def say(word: str) -> None:
        os.write(truth, f"{word} {name} {step} {epoch}\n".encode())

    if hold(f"{place}/{name}.lock") is None:
        say("overlap")
    say("start")
    if sys.argv[6] == "tail":
        leave_a_tail(f"{place}/{name}.tail")
    wrote = {1: 0, 2: 0}
    counted = os.open(f"{place}/{name}.{epoch}.{step}.wrote", os.O_WRONLY | os.O_CREAT, 0o600)
    for number, (descriptor, data) in enumerate(pieces(name, step, count)):
        while data:
            written = os.write(descriptor, data)
            data = data[written:]
            wrote[descriptor] += written
            os.pwrite(counted, b"%020d %020d" % (wrote[1], wrote[2]), 0)
        if number % BEAT == BEAT - 1:
            say("beat")
        time.sleep(PAUSE_S)
    say("stop")
    sys.exit(code)


if __name__ == "__main__":
    main()
