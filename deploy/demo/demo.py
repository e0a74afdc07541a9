"""Show Banksman at work: `make demo`.

Starts `banksman dev` in a directory of its own on a free port, runs this repository's own tests on its runner, makes a
task of a template and lets a schedule fire it, reads the report, tries again after a failure, refuses a run at a limit,
cancels a program that refuses to end, says what it did, and stops everything. Every step is a call of the command line
as anybody would type it; one that does not do what it says ends the demo. Needs git, no root, and about half a minute.
"""

from __future__ import annotations

import contextlib
import fcntl
import pathlib
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from stage import BANKSMAN, BIN, REPOSITORY, DemoError, Shell, banksman_dev, headline, listed, must, say, style, until

HERE = pathlib.Path(__file__).resolve().parent
PLACES = REPOSITORY / ".demo"
PART_OF_THE_TESTS = "tests/unit/control_plane/domain"

CHECK_OUT_AND_TEST = """\
set -eu
echo "checking out $SOURCE into $PWD"
git clone --quiet --depth 1 "file://$SOURCE" checkout
cd checkout
git log -1 --format='at %h: %s'
exec "$PYTHON" -m pytest -q -x -p no:cacheprovider "$TESTS"
"""


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


def fire_a_schedule(shell: Shell) -> str:
    """Returns the run that the schedule made."""
    headline("A task made of a template, and a schedule that fires it each second")
    shell("apply", "-f", "deploy/demo/greeting.yaml")
    shell("template", "instantiate", "greeting", "greet", "-p", "place=yard")
    shell("schedule", "create", "each-second", "--task", "greet", "--every", "1s", "--var", "who=crane")

    def succeeded() -> list[dict[str, Any]]:
        runs = listed(shell, "run", "list", "--task", "greet")
        return [run for run in runs if str(run["state"]).endswith("SUCCEEDED")]

    run = str(until(succeeded, "the schedule fired and its run succeeded")[0]["id"])
    shell("schedule", "pause", "each-second")
    printed = shell.shown("run", "logs", run)
    must(printed == "hello crane, says the yard\n", "parameter and variable arrive in the run")
    shell("run", "list", "--task", "greet", "--limit", "3")
    return run


def read_the_report(shell: Shell, run: str) -> None:
    headline("Its report, as the template asks for one")
    shell("run", "wait", run, "--for", "settled")
    told = shell.shown("run", "report", run, most=12)
    must(told.startswith("# greet: SUCCEEDED"), "the report tells the task and how it ended")
    must("hello crane, says the yard" in told, "the report shows what the run printed")


def try_again(shell: Shell) -> None:
    headline("A program that fails the first time: tried again by its policy")
    fails_once = "echo this is try $BANKSMAN_ATTEMPT; test $BANKSMAN_ATTEMPT = 2"
    printed = shell.shown("run", "exec", "--retry", "2", "--retry-backoff", "1s", "--", "sh", "-c", fails_once)
    tries = [line for line in printed.splitlines() if line.startswith("this is try")]
    must(tries == ["this is try 1", "this is try 2"], "it ran twice, and not a third time")
    attempts = sorted(shell.json("run", "get", "@last")["attempts"], key=lambda attempt: int(attempt["number"]))
    ends = [str(attempt["reason"]).removeprefix("REASON_") for attempt in attempts]
    say(f"its attempts ended with {' and '.join(ends)}")
    must(ends == ["EXIT_NONZERO", "EXIT_ZERO"], "the first attempt failed and is kept, the second one succeeded")


def refuse_at_a_limit(shell: Shell, place: pathlib.Path) -> None:
    headline("One deploy at a time: a second one is refused, and hears why")
    done = place / "deployed"
    program = f"until test -e {shlex.quote(str(done))}; do sleep 0.1; done; echo deployed"
    shell("task", "create", "deploy", "--max-concurrent", "1", "--on-limit", "reject", "--", "sh", "-c", program)
    first = shell.shown("task", "run", "deploy").strip()
    refusal = shell.shown("task", "run", "deploy", expect=6)
    must(
        "LIMIT_REACHED" in refusal and first in refusal, "the refusal names the limit and the run that holds the place"
    )
    say("  (the first one ends)")
    done.touch()
    shell("run", "wait", first)
    must("deployed" in shell.shown("task", "run", "deploy", "--follow"), "the place is free again")


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
    say("  made a task of a template, let a schedule fire it, and read the report of that run")
    say("  tried a failing program again, and refused a run for which there was no place")
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
            read_the_report(shell, fire_a_schedule(shell))
            try_again(shell)
            refuse_at_a_limit(shell, place)
            cancel_what_refuses_to_end(shell, place)
    except DemoError as error:
        say(f"\nthe demo failed: {error}\nits files are in {place}")
        return 1
    except KeyboardInterrupt:
        shutil.rmtree(place, ignore_errors=True)
        say("\ninterrupted; everything is stopped")
        return 130
    shutil.rmtree(place, ignore_errors=True)
    sum_up(time.monotonic() - begin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
