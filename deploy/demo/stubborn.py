"""A program that does not want to end: it ignores the polite signals, and so does a grandchild that it hides.

Both hold a lock on the file that is given, so that anybody can see whether one of them is left.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys


def stay(name: str, announce: int) -> None:
    os.write(1, f"{name}: process {os.getpid()} ignores SIGTERM, SIGINT and SIGHUP\n".encode())
    os.write(announce, f"{name} {os.getpid()}\n".encode())
    while True:
        signal.pause()


def main(lock: str, announced: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # Inherited by the grandchild: the lock is free only when both are gone.
    fcntl.flock(os.open(lock, os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)
    announce = os.open(announced, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            stay("grandchild in a session of its own", announce)
        os._exit(0)
    os.wait()
    stay("child", announce)


if __name__ == "__main__":
    main(*sys.argv[1:])
