"""The pipes of one step: output is read, masked and spooled; stdin is fed and closed; exec reports its failure."""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
import time
from collections.abc import Callable

from runner_agent.shim.child import ChildEnds
from runner_agent.shim.loop import READ, WRITE, Loop
from runner_agent.shim.mask import Masker, NeedleSet
from runner_agent.shim.pace import ENOUGH_BYTES, REST_S, Pace
from runner_agent.shim.records import dataclass, field
from runner_agent.shim.spool_format import STDERR, STDOUT

READ_BYTES = 256 << 10
_PIPE_BYTES = 256 << 10
_LAST_BYTES = 8 << 20
_F_SETPIPE_SZ = 1031
_FIONREAD = 0x541B
_NO_NEEDLES = NeedleSet()

Write = Callable[[int, bytes | memoryview], None]


@dataclass(slots=True)
class _Output:
    descriptor: int
    kind: int
    masker: Masker
    pace: Pace = field(default_factory=Pace)


class StepStreams:
    """The shim's ends. Make it before the fork; `child_ends` are for the child and closed by `keep_own_ends`."""

    def __init__(self) -> None:
        self._theirs: list[int] = []
        self._outputs: list[_Output] = []
        self._report = b""
        self._buffer: memoryview | None = None
        self._input = memoryview(b"")
        stdin_end, self._stdin = self._pipe(ours=1)
        stdout_end = self._make_output(STDOUT)
        stderr_end = self._make_output(STDERR)
        barrier_end, self._barrier = self._pipe(ours=1)
        status_end, self._status = self._pipe(ours=0)
        self.child_ends = ChildEnds(
            stdin=stdin_end, stdout=stdout_end, stderr=stderr_end, barrier=barrier_end, status=status_end
        )

    def _pipe(self, *, ours: int) -> tuple[int, int]:
        """(their end, our end) of a new pipe; `ours` is 0 to read and 1 to write."""
        pair = os.pipe2(os.O_CLOEXEC)
        self._theirs.append(pair[1 - ours])
        return pair[1 - ours], pair[ours]

    def _make_output(self, kind: int) -> int:
        theirs, ours = self._pipe(ours=0)
        os.set_blocking(ours, False)
        _widen(ours)
        self._outputs.append(_Output(ours, kind, Masker(_NO_NEEDLES)))
        return theirs

    def keep_own_ends(self) -> None:
        """After the fork, in the shim: the child's ends are the child's alone."""
        for descriptor in self._theirs:
            os.close(descriptor)
        self._theirs = []

    def instruct(self, instruction: bytes, *, stdin: bytes | None, merge_output: bool, needles: NeedleSet) -> None:
        """Tell the waiting child what to become, and the streams what to look for. It still waits for `release`."""
        for output in list(self._outputs):
            output.masker = Masker(needles)
            if merge_output and output.kind == STDERR:
                os.close(output.descriptor)
                self._outputs.remove(output)
        self._input = memoryview(stdin or b"")
        if stdin is None:
            os.close(self._stdin)
            self._stdin = -1
        else:
            os.set_blocking(self._stdin, False)
        view = memoryview(instruction)
        try:
            while view:
                view = view[os.write(self._barrier, view) :]
        except BrokenPipeError:
            return  # the child is dead already, and will be reaped

    def release(self) -> None:
        """Open the start barrier."""
        try:
            os.write(self._barrier, b"g")
        except BrokenPipeError:
            return  # the child is dead already, and will be reaped
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the start barrier; unopened, it makes the child leave."""
        if self._barrier >= 0:
            os.close(self._barrier)
            self._barrier = -1

    @property
    def outputs_open(self) -> bool:
        """Whether a writer may still exist."""
        return bool(self._outputs)

    def watch(self, loop: Loop, write: Write, closed: Callable[[], None], status: Callable[[bytes], None]) -> None:
        """Serve the pipes: `write(kind, masked bytes)`, `closed()` after the last output, `status(report)` once."""

        def read_status() -> None:
            data = os.read(self._status, 4096)
            self._report += data
            if not data:
                loop.forget(self._status)
                os.close(self._status)
                self._status = -1
                status(self._report)

        loop.watch(self._status, READ, read_status)
        for output in list(self._outputs):
            loop.watch(output.descriptor, READ, self._reader(loop, output, write, closed))
        if self._stdin >= 0:
            loop.watch(self._stdin, WRITE, lambda: self._feed(loop))

    def _reader(self, loop: Loop, output: _Output, write: Write, closed: Callable[[], None]) -> Callable[[], None]:
        def read() -> None:
            _rest(output)
            if self._read(output, write) == 0:
                self._end(loop, output, write)
                if not self._outputs:
                    closed()

        return read

    def _read(self, output: _Output, write: Write) -> int | None:
        """Bytes read; 0 at the end, None when there is nothing now."""
        if self._buffer is None:
            # Always the same memory: what is new for each read is new pages for each read. Untouched, it costs nothing.
            self._buffer = memoryview(mmap.mmap(-1, READ_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        try:
            size = os.readv(output.descriptor, (self._buffer,))
        except BlockingIOError:
            return None
        if size:
            masked = output.masker.feed(self._buffer[:size])
            if masked:
                write(output.kind, masked)
            output.pace.has_read(time.monotonic_ns())
        return size

    def _end(self, loop: Loop, output: _Output, write: Write) -> None:
        loop.forget(output.descriptor)
        os.close(output.descriptor)
        self._outputs.remove(output)
        rest = output.masker.finish()
        if rest:
            write(output.kind, rest)

    def _feed(self, loop: Loop) -> None:
        try:
            if self._input:
                self._input = self._input[os.write(self._stdin, self._input[: 64 << 10]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._input = memoryview(b"")  # the program reads no more, which is its right
        if not self._input:
            self._close_stdin(loop)

    def _close_stdin(self, loop: Loop) -> None:
        if self._stdin >= 0:
            loop.forget(self._stdin)
            os.close(self._stdin)
            self._stdin = -1

    def close(self, loop: Loop, write: Write) -> None:
        """The tree is gone: take what is left in the pipes, whoever still holds them, and close everything."""
        for output in list(self._outputs):
            taken = 0
            while taken < _LAST_BYTES and (size := self._read(output, write)):
                taken += size
            self._end(loop, output, write)
        self._close_stdin(loop)
        self.abandon()
        if self._status >= 0:
            loop.forget(self._status)
            os.close(self._status)
            self._status = -1

    def last_report(self) -> bytes | None:
        """What exec reported if the status pipe has ended but was not yet served; None if it is open or was served."""
        if self._status < 0:
            return None
        os.set_blocking(self._status, False)
        try:
            while data := os.read(self._status, 4096):
                self._report += data
        except BlockingIOError:
            return None
        return self._report


def _widen(pipe: int) -> None:
    try:
        fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:
        return  # the user's share of pipe memory is used up: a smaller pipe does too


def _rest(output: _Output) -> None:
    """Let the bytes of a busy stream gather; not those before its end."""
    if output.pace.is_busy(time.monotonic_ns()) and 0 < _available_bytes(output.descriptor) < ENOUGH_BYTES:
        time.sleep(REST_S)
        output.pace.has_rested(time.monotonic_ns())


def _available_bytes(descriptor: int) -> int:
    """What can be read of a pipe now; 0 at its end."""
    return int.from_bytes(fcntl.ioctl(descriptor, _FIONREAD, bytes(4)), sys.byteorder)
