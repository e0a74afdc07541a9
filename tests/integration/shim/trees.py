"""Programs that do not want to end, for the kill ladder. Each says `ready` when its whole tree stands."""

from __future__ import annotations

# A process that ignores every signal it may, says so through the pipe that it was given, and waits for ever.
_STUBBORN = """
import os, signal, sys, time
for number in range(1, 65):
    if number not in (9, 17, 18, 19, 32, 33):
        signal.signal(number, signal.SIG_IGN)
def stay():
    r, w = os.pipe()
    while True:
        os.read(r, 1)
def ready(fd):
    os.write(fd, b"x"); os.close(fd)
def wait_ready(fd, count):
    while count:
        count -= len(os.read(fd, count))
"""

IGNORES_SIGTERM = (
    _STUBBORN
    + """
os.write(1, b"ready\\n"); stay()
"""
)

DOUBLE_FORKED = (
    _STUBBORN
    + """
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        ready(w); stay()
    os._exit(0)
os.wait(); wait_ready(r, 1)
os.write(1, b"ready\\n"); stay()
"""
)

# A daemon that has left the session, cleared its environment by exec, closed its streams, and forked again.
HIDDEN = (
    _STUBBORN
    + """
r, w = os.pipe()
os.set_inheritable(w, True)
program = '''
import os, signal, sys
w = int(sys.argv[1])
signal.signal(15, signal.SIG_IGN); signal.signal(1, signal.SIG_IGN)
for fd in (0, 1, 2): os.close(fd)
os.setsid()
if os.fork() == 0:
    os.setsid(); os.write(w, b"x"); os.close(w)
    r, _ = os.pipe()
    while True: os.read(r, 1)
os.write(w, b"x"); os.close(w)
r, _ = os.pipe()
while True: os.read(r, 1)
'''
if os.fork() == 0:
    if os.fork() == 0:
        os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", program, str(w)], {})
    os._exit(0)
os.wait(); wait_ready(r, 2)
os.write(1, b"ready\\n"); stay()
"""
)

# Children that keep forking replacements while they are killed.
BREEDING = (
    _STUBBORN
    + """
r, w = os.pipe()
signal.signal(15, signal.SIG_IGN)
signal.signal(17, signal.SIG_IGN)
def breed(depth):
    ready(os.dup(w))
    while True:
        if depth < 3 and os.fork() == 0:
            depth += 1; ready(os.dup(w)); continue
        time.sleep(0.02)
        if depth >= 3:
            if os.fork() != 0: os._exit(0)
for _ in range(4):
    if os.fork() == 0:
        os.setsid(); breed(0)
wait_ready(r, 8)
os.write(1, b"ready\\n"); stay()
"""
)

# The leader ends at once; what it leaves holds the pipe.
LEAVES_A_HOLDER = (
    _STUBBORN
    + """
r, w = os.pipe()
if os.fork() == 0:
    os.setsid(); ready(w); stay()
wait_ready(r, 1)
os.write(1, b"ready\\n"); os._exit(7)
"""
)

# The leader ends at once; what it leaves has closed everything.
LEAVES_A_CLOSED_ONE = (
    _STUBBORN
    + """
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    for fd in (0, 1, 2): os.close(fd)
    ready(w); stay()
wait_ready(r, 1)
os.write(1, b"ready\\n"); os._exit(0)
"""
)
