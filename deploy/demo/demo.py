"""Show Banksman at work: `make demo`.

Starts `banksman dev` in a directory of its own on a free port, runs this repository's own tests on its runner, fires a
schedule, cancels a program that refuses to end, says what it did, and stops everything. Every step is a call of the
command line as anybody would type it. Needs git, no root, and about half a minute.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
BIN = pathlib.Path(sys.executable).parent
BANKSMAN = BIN / "banksman"
PLACES = REPOSITORY / ".demo"
PART_OF_THE_TESTS = "tests/unit/control_plane/domain"
COLOR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
T = TypeVar("T")

CHECK_OUT_AND_TEST = """\
set -eu
echo "checking out $SOURCE into $PWD"
git clone --quiet --depth 1 "file://$SOURCE" checkout
cd checkout
git log -1 --format='at %h: %s'
exec "$PYTHON" -m pytest -q -x -p no:cacheprovider "$TESTS"
"""


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


class Shell:
    """Calls `banksman` like a user, and prints each command line."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._environ = {**os.environ, **settings}

    def __call__(self, *arguments: str, quiet: bool = False, input: str | None = None, expect: int = 0) -> str:
        """Returns what it printed to stdout; live on the terminal unless quiet."""
        if not quiet:
            say(style("$ banksman " + shlex.join(arguments), "36"))
        stdin: dict[str, Any] = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        done = subprocess.run(
            [str(BANKSMAN), *arguments],
            text=True,
            errors="replace",
            stdout=subprocess.PIPE if quiet else None,
            env=self._environ,
            timeout=300,
            check=False,
            **stdin,
        )
        if done.returncode != expect:
            raise DemoError(f"`banksman {shlex.join(arguments)}` ended with {done.returncode}, not {expect}")
        return done.stdout or ""

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "-o", "json", quiet=True))


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


def run_the_tests(shell: Shell, place: pathlib.Path) -> None:
    headline("A real run: check this repository out on the runner, and run part of its tests there")
    script, config = place / "check-out-and-test.sh", place / "gitconfig"
    script.write_text(CHECK_OUT_AND_TEST)
    # The checkout may belong to another user than the one who runs this.
    config.write_text(f"[safe]\n\tdirectory = {REPOSITORY}\n\tdirectory = {REPOSITORY}/.git\n")
    settings = {
        "SOURCE": str(REPOSITORY),
        "PYTHON": sys.executable,
        "TESTS": PART_OF_THE_TESTS,
        "GIT_CONFIG_GLOBAL": str(config),
    }
    say(style("  " + CHECK_OUT_AND_TEST.replace("\n", "\n  ").rstrip(), "2"))
    given = [word for name, value in settings.items() for word in ("-e", f"{name}={value}")]
    shell("run", "exec", "--title", "part of our own tests", "--timeout", "5m", *given, "--script", str(script))


def fire_a_schedule(shell: Shell) -> None:
    headline("A task and a schedule that fires each second")
    shell("task", "create", "greet", "--", "/bin/echo", "the schedule fired")
    shell("schedule", "create", "each-second", "--task", "greet", "--every", "1s")

    def succeeded() -> list[dict[str, Any]]:
        runs = listed(shell, "run", "list", "--task", "greet")
        return [run for run in runs if str(run["state"]).endswith("SUCCEEDED")]

    run = until(succeeded, "the schedule fired and its run succeeded")[0]
    shell("schedule", "pause", "each-second")
    shell("run", "logs", str(run["id"]))
    shell("run", "list", "--task", "greet")


def cancel_what_refuses_to_end(shell: Shell, place: pathlib.Path) -> None:
    headline("A program that ignores every polite signal, and hides a grandchild: cancelled")
    lock, announced = place / "lock", place / "announced"
    child = [sys.executable, str(HERE / "stubborn.py"), str(lock), str(announced)]
    shell("run", "exec", "--detach", "--grace", "1s", "--", *child)
    until(lambda: announced.exists() and len(announced.read_text().splitlines()) == 2, "both processes are there")
    pids = [int(line.split()[-1]) for line in announced.read_text().splitlines()]
    shell("run", "logs", "@last")
    show(pids)
    if free(lock):
        raise DemoError("nobody holds the lock, so this would prove nothing")
    run = str(shell.json("run", "get", "@last")["id"])
    shell("run", "cancel", run, "--note", "end of the demo")
    shell("run", "wait", run, expect=7)
    show(pids)
    told = shell.json("run", "get", run)
    if any(alive(pid) for pid in pids) or not free(lock) or not told.get("kill_confirmed"):
        raise DemoError(f"a process is left, or its end is not proven: {pids}")
    say("both are gone, their lock is free, and the kernel confirmed it (kill_confirmed is true)")


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def show(pids: Sequence[int]) -> None:
    for pid in pids:
        say(f"  process {pid}: {'alive' if alive(pid) else 'gone'}")


def free(lock: pathlib.Path) -> bool:
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def sum_up(seconds: float) -> None:
    headline(f"Done in {seconds:.0f} s")
    say("  ran part of this repository's tests on a runner, with their live output")
    say("  fired a schedule")
    say("  cancelled a process tree that refused to end, and proved that nothing of it is left")
    say("  stopped the control plane and the runner that it had started")
    say()
    say(f"`banksman` is {BANKSMAN}")
    say(f"  export PATH={shlex.quote(str(BIN))}:$PATH")
    say("  banksman dev                       # a control plane and a runner of your own")
    say("  banksman run exec -- echo hello    # in another terminal")


def main() -> int:
    begin = time.monotonic()
    if shutil.which("git") is None:
        say("the demo needs git; on Debian: apt install git")
        return 1
    if not (REPOSITORY / ".git").exists():
        say(f"the demo checks this repository out, but {REPOSITORY} is no git checkout; clone it instead")
        return 1
    PLACES.mkdir(exist_ok=True)
    place = pathlib.Path(tempfile.mkdtemp(prefix="d", dir=PLACES))
    try:
        headline("Start a control plane and a runner")
        with banksman_dev(place) as shell:
            run_the_tests(shell, place)
            fire_a_schedule(shell)
            cancel_what_refuses_to_end(shell, place)
    except DemoError as error:
        say(f"\nthe demo failed: {error}\nits files are in {place}")
        return 1
    except KeyboardInterrupt:
        say("\ninterrupted; everything is stopped")
        return 130
    shutil.rmtree(place, ignore_errors=True)
    sum_up(time.monotonic() - begin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
