"""The program `banksman-run`, for use inside a run: tells its shim progress, a result, or a value to mask.

Standard library only, and little of it: a build may call it for every file.
"""

from __future__ import annotations

import json
import os
import socket
import sys

USAGE = """usage: banksman-run progress PERCENT [STAGE] [--note TEXT]
       banksman-run result FILE
       banksman-run add-mask -

  progress   Say how far the run has come: PERCENT is 0 to 100, or - to leave it as it is. It never goes back.
  result     Give the run a result: a file with JSON of at most 256 KiB, - for standard input. The last one counts;
             what the run leaves in $BANKSMAN_RESULT counts more.
  add-mask   Mask a value in the log from now on, at least 8 bytes. With - it is read from standard input, where no
             other process sees it; without a line end.
"""
TIMEOUT_S = 30.0
MOST_INPUT_BYTES = 512 << 10


class Refused(Exception):
    """Why it was not done, in one sentence; exit code 1."""


class Misused(Exception):
    """What is wrong with the command line; exit code 2."""


def main(arguments: list[str] | None = None) -> int:
    """Entry point. 0: it is in force; 1: it was refused; 2: the command line is wrong."""
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[0] in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
        return 0
    try:
        ask(message_of(words))
    except Misused as error:
        sys.stderr.write(f"banksman-run: {error}\n{USAGE}")
        return 2
    except (Refused, OSError) as error:
        sys.stderr.write(f"banksman-run: {error}\n")
        return 1
    return 0


def message_of(words: list[str]) -> dict[str, object]:
    """The line that says what the words ask for. Raises Misused, Refused, OSError."""
    verb, rest = (words[0], words[1:]) if words else ("", [])
    if verb == "progress":
        return _progress(rest)
    if verb == "result" and len(rest) == 1:
        return {"type": "result", "value": _json(rest[0])}
    if verb == "add-mask" and len(rest) == 1:
        value = rest[0] if rest[0] != "-" else _input("-").decode("utf-8", "surrogateescape").rstrip("\r\n")
        return {"type": "add_mask", "value": value}
    raise Misused("say progress, result or add-mask, with what it needs")


def _progress(words: list[str]) -> dict[str, object]:
    message: dict[str, object] = {"type": "progress"}
    if "--note" in words:
        at = words.index("--note")
        if at + 1 >= len(words):
            raise Misused("--note needs a text")
        message["note"] = words[at + 1]
        words = [*words[:at], *words[at + 2 :]]
    if not 1 <= len(words) <= 2:
        raise Misused("progress needs PERCENT, and may have a STAGE")
    if words[0] != "-":
        try:
            message["percent"] = float(words[0].removesuffix("%"))
        except ValueError:
            raise Misused(f"{words[0]!r} is not a number from 0 to 100") from None
    if len(words) == 2:
        message["stage"] = words[1]
    return message


def _json(name: str) -> object:
    try:
        return json.loads(_input(name))
    except ValueError as error:
        raise Refused(f"the result is not JSON: {error}") from None


def _input(name: str) -> bytes:
    if name == "-":
        data = sys.stdin.buffer.read(MOST_INPUT_BYTES + 1)
    else:
        with open(name, "rb") as file:
            data = file.read(MOST_INPUT_BYTES + 1)
    if len(data) > MOST_INPUT_BYTES:
        raise Refused("it is too large")
    return data


def ask(message: dict[str, object]) -> None:
    """Say one line and wait until it is in force. Raises Refused, OSError."""
    path = os.environ.get("BANKSMAN_SOCKET")
    if not path:
        raise Refused("BANKSMAN_SOCKET is not set: this is not inside a run")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(path)
        connection.sendall(json.dumps(message).encode() + b"\n")
        answer = json.loads(connection.makefile("rb").readline() or b"{}")
    if not answer.get("ok"):
        raise Refused(str(answer.get("error") or "the run's shim did not answer"))


if __name__ == "__main__":
    sys.exit(main())
