"""What the demo stands on: a control plane and a runner of its own, and a shell that calls `banksman` as people do."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(sys.executable).parent
BANKSMAN = BIN / "banksman"
COLOR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
T = TypeVar("T")


class DemoError(Exception):
    """Says what went wrong, to the one who started the demo."""


def style(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if COLOR else text


def say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def headline(text: str) -> None:
    say()
    say(style(f"== {text}", "1"))


def until(condition: Callable[[], T | None], what: str, timeout_s: float = 30.0) -> T:
    """The condition's first true value; DemoError names `what` after timeout_s."""
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise DemoError(f"waited {timeout_s:g} s in vain: {what}")
        time.sleep(0.05)
    return value


def must(true: object, what: str) -> None:
    """The demo fails when the product did not do `what`."""
    if not true:
        raise DemoError(f"this did not hold: {what}")


class Shell:
    """Calls `banksman` like a user, and prints each command line."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._environ = {**os.environ, **settings}

    def __call__(self, *arguments: str, quiet: bool = False, input: str | None = None, expect: int = 0) -> str:
        """What it printed to stdout; live on the terminal, and then "", unless quiet."""
        if not quiet:
            say(style("$ banksman " + shlex.join(arguments), "36"))
        stdin: dict[str, Any] = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        done = subprocess.run(
            [str(BANKSMAN), *arguments],
            text=True,
            errors="replace",
            stdout=subprocess.PIPE if quiet else None,
            env=self._environ,
            cwd=REPOSITORY,
            timeout=300,
            check=False,
            **stdin,
        )
        ended(arguments, done.returncode, expect)
        return done.stdout or ""

    def shown(self, *arguments: str, expect: int = 0, most: int = 40) -> str:
        """What it printed to both outputs; the first lines of it on the terminal as well."""
        say(style("$ banksman " + shlex.join(arguments), "36"))
        done = subprocess.run(
            [str(BANKSMAN), *arguments],
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environ,
            cwd=REPOSITORY,
            timeout=300,
            check=False,
        )
        lines = done.stdout.splitlines()
        say("\n".join(lines[:most]))
        if len(lines) > most:
            say(f"  (and {len(lines) - most} lines more)")
        ended(arguments, done.returncode, expect)
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "-o", "json", quiet=True))


def ended(arguments: Sequence[str], code: int, expect: int) -> None:
    if code != expect:
        raise DemoError(f"`banksman {shlex.join(arguments)}` ended with {code}, not {expect}")


@contextlib.contextmanager
def banksman_dev(place: pathlib.Path) -> Iterator[Shell]:
    """A server and a runner under `place`, stopped at the end."""
    output = place / "dev.out"
    argv = [str(BANKSMAN), "dev", "--state-dir", str(place / "state"), "--listen", "127.0.0.1:0"]
    say(style("$ " + shlex.join(["banksman", *argv[1:]]), "36"))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BANKSMAN_")}
    with output.open("wb") as file:
        dev = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=clean, start_new_session=True
        )

    def told(last: int = 30) -> str:
        return "\n".join(output.read_text(errors="replace").splitlines()[-last:])

    def admin() -> dict[str, str] | None:
        if dev.poll() is not None:
            raise DemoError(f"`banksman dev` ended by itself with {dev.returncode}:\n{told()}")
        with contextlib.suppress(StopIteration, json.JSONDecodeError, FileNotFoundError):
            found: dict[str, str] = json.loads(next((place / "state").rglob("admin.json")).read_text())
            return found
        return None

    try:
        found = until(admin, "the control plane is up")
        shell = Shell({"BANKSMAN_URL": found["url"], "BANKSMAN_TOKEN": found["token"]})
        until(
            lambda: any(runner.get("connected") for runner in listed(shell, "runner", "list")),
            "the runner is connected",
        )
        say(told())
        yield shell
    finally:
        stop(dev, told)


def stop(dev: subprocess.Popen[bytes], told: Callable[[], str]) -> None:
    """As Ctrl-C does."""
    if dev.poll() is None:
        dev.send_signal(signal.SIGINT)
        try:
            dev.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(dev.pid, signal.SIGKILL)
            dev.wait()
            raise DemoError(f"`banksman dev` did not stop within 30 s:\n{told()}") from None


def listed(shell: Shell, *arguments: str) -> list[dict[str, Any]]:
    """A list as its objects, whatever stands around it."""
    lines = shell(*arguments, "-o", "jsonl", quiet=True).splitlines()
    return [json.loads(line) for line in lines if line.strip()]
