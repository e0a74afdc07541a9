"""What a run has to say of itself: its result, from BANKSMAN_RESULT or over the socket, and how far it has come."""

from __future__ import annotations

import errno
import json
import os
import stat

from runner_agent.shim.codec import BadMessage
from runner_agent.shim.mask import Masker, NeedleSet
from runner_agent.shim.messages import Progress

MAX_RESULT_BYTES = 256 << 10
RELAY_S = 0.2
MAX_DEPTH_MESSAGE = "it is nested too deeply"


def read_result_file(path: str) -> tuple[str | None, str]:
    """(JSON text, "") of the file that the run wrote; (None, why) if it cannot be taken; (None, "") without one."""
    try:
        # Not through a link that the run has set, and never waiting for the other end of a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None, "the result file is a symbolic link"
        return None, f"the result file cannot be read: {error.strerror}"
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None, "the result file is not a regular file"
        data = _read(descriptor)
    except OSError as error:
        return None, f"the result file cannot be read: {error.strerror}"
    finally:
        os.close(descriptor)
    if not data.strip():
        return None, ""
    if len(data) > MAX_RESULT_BYTES:
        return None, f"the result file is larger than {MAX_RESULT_BYTES} bytes"
    return _compact(data)


def _read(descriptor: int) -> bytes:
    data = b""
    while len(data) <= MAX_RESULT_BYTES and (part := os.read(descriptor, MAX_RESULT_BYTES + 1 - len(data))):
        data += part
    return data


def _compact(data: bytes) -> tuple[str | None, str]:
    """As the socket stores it: without blanks between its parts, and never with words that are no JSON."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        text.encode("utf-8")
    except RecursionError:
        return None, f"the result file is not taken: {MAX_DEPTH_MESSAGE}"
    except UnicodeError:
        return None, "the result file is not UTF-8"
    except json.JSONDecodeError as error:
        return None, f"the result file is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
    except ValueError as error:
        return None, f"the result file is not JSON: {error}"
    if len(text.encode("utf-8")) > MAX_RESULT_BYTES:
        return None, f"the result file is larger than {MAX_RESULT_BYTES} bytes"
    return text, ""


def _no_constant(word: str) -> object:
    raise ValueError(f"{word} is no JSON number")


class Words:
    """The newest of what an attempt has said of itself, masked."""

    def __init__(self, needles: NeedleSet) -> None:
        self.result: str | None = None
        self.progress: Progress | None = None
        # The newest progress was not told to the agent yet.
        self.waits = False
        self._told_ns: int | None = None
        self._needles = needles

    def untold(self, now_ns: int) -> Progress | None:
        """The newest progress if it is to be told now: the first at once, then one every RELAY_S (by boottime)."""
        if not self.waits or (self._told_ns is not None and now_ns - self._told_ns < int(RELAY_S * 1e9)):
            return None
        self.waits, self._told_ns = False, now_ns
        return self.progress

    def advance(self, fraction: float | None, stage: str, note: str, at_ns: int) -> Progress:
        """Progress never goes back within an attempt; what is not said stays as it was."""
        known = self.progress or Progress(fraction=None, text="")
        furthest = [each for each in (known.fraction, fraction) if each is not None]
        self.progress = Progress(
            fraction=max(furthest, default=None),
            text=self.masked(note),
            stage=self.masked(stage) or known.stage,
            at_ns=max(at_ns, known.at_ns + 1),
        )
        self.waits = True
        return self.progress

    def take(self, text: str) -> str:
        """The result, if masking leaves it JSON. Raises BadMessage."""
        masked = self.masked(text)
        try:
            json.loads(masked)
        except ValueError:
            raise BadMessage("the result contains a secret") from None
        self.result = masked
        return masked

    def take_file(self, path: str | None) -> str:
        """What the run wrote into its result file wins over what it told. Why it is not taken; empty if it is."""
        if path is None:
            return ""
        text, error = read_result_file(path)
        if text is None:
            return error
        try:
            self.take(text)
        except BadMessage as refused:
            return str(refused)
        return ""

    def masked(self, text: str) -> str:
        """The text without secrets."""
        masker = Masker(self._needles)
        data = text.encode("utf-8", "surrogatepass")
        return b"".join((masker.feed(data), masker.finish())).decode("utf-8", "replace")
