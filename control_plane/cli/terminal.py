"""Make log bytes safe to show on a terminal: colours pass, nothing else steers it.

A log holds whatever a program printed, so it could move the cursor, set the title, or make the terminal answer into
the shell's input. Only SGR sequences (colours), carriage return, newline and tab pass; other sequences and control
characters are dropped, and what is not UTF-8 becomes U+FFFD. The cut between two chunks may fall anywhere.
"""

from __future__ import annotations

import codecs
import re
from enum import Enum, auto

SAFE_RUN = re.compile(r"[^\x00-\x1f\x7f-\x9f]+")
SGR_PARAMETERS = re.compile(r"[0-9;:]*")
MOST_PARAMETERS = 64
MOST_STRING = 65_536
RESET = b"\x1b[0m"


class Mode(Enum):
    GROUND = auto()
    ESCAPE = auto()
    # An escape sequence with intermediate characters, such as the choice of a character set.
    INTERMEDIATE = auto()
    CSI = auto()
    CSI_IGNORED = auto()
    # OSC, DCS, SOS, PM and APC: everything up to the string terminator.
    STRING = auto()
    STRING_ESCAPE = auto()


class Sanitiser:
    """One stream's state between chunks."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._mode = Mode.GROUND
        self._parameters = ""
        self._swallowed = 0
        self._colored = False

    def feed(self, data: bytes) -> bytes:
        """The safe form of the next bytes; what may still become a sequence is held back."""
        return self._filter(self._decoder.decode(data))

    def finish(self) -> bytes:
        """What was held back, and the end of any colour that was left on."""
        rest = self._filter(self._decoder.decode(b"", final=True))
        self._mode = Mode.GROUND
        colored, self._colored = self._colored, False
        return rest + (RESET if colored else b"")

    def _filter(self, text: str) -> bytes:
        out: list[str] = []
        position = 0
        while position < len(text):
            if self._mode is Mode.GROUND and (run := SAFE_RUN.match(text, position)):
                out.append(run.group())
                position = run.end()
                continue
            self._step(text[position], out)
            position += 1
        return "".join(out).encode("utf-8", errors="replace")

    def _step(self, char: str, out: list[str]) -> None:
        match self._mode:
            case Mode.GROUND:
                self._ground(char, out)
            case Mode.ESCAPE:
                self._escape(char, out)
            case Mode.INTERMEDIATE:
                if not " " <= char <= "/":
                    self._end_of_sequence(char, out, final="0" <= char <= "~")
            case Mode.CSI:
                self._csi(char, out)
            case Mode.CSI_IGNORED:
                if not " " <= char <= "?":
                    self._end_of_sequence(char, out, final="@" <= char <= "~")
            case Mode.STRING:
                self._string(char, out)
            case Mode.STRING_ESCAPE:
                self._mode = Mode.GROUND
                if char != "\\":
                    self._escape(char, out)

    def _ground(self, char: str, out: list[str]) -> None:
        match char:
            case "\r" | "\n" | "\t":
                out.append(char)
            case "\x1b":
                self._mode = Mode.ESCAPE
            case "\x9b":
                self._begin_csi()
            case "\x90" | "\x98" | "\x9d" | "\x9e" | "\x9f":
                self._begin_string()
            case _ if SAFE_RUN.match(char):
                out.append(char)

    def _escape(self, char: str, out: list[str]) -> None:
        match char:
            case "[":
                self._begin_csi()
            case "]" | "P" | "X" | "^" | "_":
                self._begin_string()
            case _ if " " <= char <= "/":
                self._mode = Mode.INTERMEDIATE
            case _:
                self._end_of_sequence(char, out, final="0" <= char <= "~")

    def _csi(self, char: str, out: list[str]) -> None:
        if " " <= char <= "?":
            self._parameters += char
            if len(self._parameters) > MOST_PARAMETERS:
                self._mode = Mode.CSI_IGNORED
            return
        if char == "m" and SGR_PARAMETERS.fullmatch(self._parameters):
            out.append(f"\x1b[{self._parameters}m")
            self._colored = self._parameters.strip("0;") != ""
        self._end_of_sequence(char, out, final="@" <= char <= "~")

    def _string(self, char: str, out: list[str]) -> None:
        """Drop a control string; a new line or too long a one means that nobody will end it."""
        self._swallowed += 1
        match char:
            case "\x07" | "\x9c" | "\x18" | "\x1a":
                self._mode = Mode.GROUND
            case "\x1b":
                self._mode = Mode.STRING_ESCAPE
            case "\n":
                self._mode = Mode.GROUND
                out.append(char)
            case _ if self._swallowed > MOST_STRING:
                self._mode = Mode.GROUND

    def _begin_csi(self) -> None:
        self._mode = Mode.CSI
        self._parameters = ""

    def _begin_string(self) -> None:
        self._mode = Mode.STRING
        self._swallowed = 0

    def _end_of_sequence(self, char: str, out: list[str], *, final: bool) -> None:
        """Back to plain text; a character that does not belong to the sequence is read anew."""
        self._mode = Mode.GROUND
        if not final:
            self._ground(char, out)
