"""Write a log where it belongs: the child's stdout to stdout, its stderr to stderr, our own lines to stderr."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import BinaryIO

from control_plane.cli import contract
from control_plane.cli.log_stream import Begin, Item, Piece
from control_plane.cli.output import iso, to_datetime
from control_plane.cli.terminal import Sanitiser


class Channel:
    """One output. On a terminal the bytes are made safe; in a pipe they stay as they are."""

    def __init__(self, stream: BinaryIO, *, terminal: bool) -> None:
        self.stream = stream
        self.terminal = terminal
        self._sanitiser = Sanitiser() if terminal else None
        self.at_line_start = True

    def write(self, data: bytes) -> None:
        self.at_line_start = data.endswith(b"\n") if data else self.at_line_start
        self.stream.write(self._sanitiser.feed(data) if self._sanitiser else data)
        self.stream.flush()

    def finish(self) -> None:
        """Give out what was held back as the beginning of a sequence."""
        if self._sanitiser and (rest := self._sanitiser.finish()):
            self.stream.write(rest)
            self.stream.flush()


class LogWriter:
    """Takes a log's items in their order.

    With `times` each line begins with the time of its first byte and the name of its stream.
    """

    def __init__(
        self,
        *,
        stdout: BinaryIO,
        stderr: BinaryIO,
        stdout_terminal: bool,
        stderr_terminal: bool,
        times: bool = False,
        say: Callable[[str], None],
    ) -> None:
        self._out = Channel(stdout, terminal=stdout_terminal)
        self._err = Channel(stderr, terminal=stderr_terminal)
        self._last = self._out
        self._times = times
        self._say = say
        self._attempt = 0

    def take(self, item: Item) -> None:
        match item:
            case Begin():
                self._begin(item)
            case Piece():
                self._piece(item)

    def _begin(self, begin: Begin) -> None:
        self.finish()
        if self._attempt and begin.number:
            self.end_lines()
            self._say(f"banksman: attempt {begin.number} begins")
        self._attempt = begin.lease_epoch

    def _piece(self, piece: Piece) -> None:
        record, kinds = piece.record, contract.log_pb2
        if record.gap_bytes:
            self.end_lines()
            self._say(f"banksman: {record.gap_bytes} bytes of the log were dropped on the runner")
            return
        match record.kind:
            case kinds.LOG_KIND_STDOUT | kinds.LOG_KIND_PTY:
                channel, name = self._out, "stdout"
            case kinds.LOG_KIND_STDERR:
                channel, name = self._err, "stderr"
            case kinds.LOG_KIND_SYSTEM:
                channel, name = self._err, "system"
            case _:
                return
        self._last = channel
        channel.write(self._stamped(channel, record, name) if self._times else record.data)

    def _stamped(self, channel: Channel, record: contract.log_pb2.LogRecord, name: str) -> bytes:
        at = to_datetime(record.at) if record.HasField("at") else datetime.datetime.min.replace(tzinfo=datetime.UTC)
        prefix = f"{iso(at)} {name} ".encode()
        lines = split_newlines(record.data)
        first = b"" if channel.at_line_start else lines.pop(0) if lines else b""
        return first + b"".join(prefix + line for line in lines)

    def end_lines(self) -> None:
        """Before a line of our own, which does not hang behind an unfinished one of the program's."""
        # Both outputs on a terminal are taken for one screen: what came last says where its cursor is.
        on_screen = self._out.terminal and self._err.terminal
        last = self._last if on_screen else self._err
        if not last.at_line_start:
            self._err.write(b"\n")
            last.at_line_start = True

    def finish(self) -> None:
        self._out.finish()
        self._err.finish()


def split_newlines(data: bytes) -> list[bytes]:
    """Lines by newline alone: a carriage return stays inside of its line."""
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
