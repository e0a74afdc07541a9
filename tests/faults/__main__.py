"""Run every fault test, bounded in time, and show the figures: `python -m tests.faults [--out FILE] [FILE | -k …]`.

First come the tests that measure nothing, two at a time, then the others one by one, so that no figure is taken
beside another test. Exit status 1 if a test is red, a goal is missed, a figure was not measured, or time ran out. With
pytest arguments (files, -k EXPRESSION) only a part is run, and what that part does not measure is not missed.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import time

FOLDER = pathlib.Path(__file__).resolve().parent
REPOSITORY = FOLDER.parents[1]
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
# They record no figures, and none of them keeps a core busy by itself.
SIDE_BY_SIDE = [str(FOLDER / f"test_{name}.py") for name in ("failpoints_all", "restores", "server_pauses")]


def root_cases() -> int:
    """How many cases need root."""
    listed = subprocess.run(
        [*PYTEST, "--collect-only", "-q", str(FOLDER / "root")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    return sum("::" in line for line in listed.stdout.splitlines())


def run(arguments: list[str], kept: pathlib.Path, environment: dict[str, str], limit_s: float) -> int:
    """pytest's exit status; interrupted after limit_s so that the table is still shown. Histories stay in `kept`."""
    argv = [*PYTEST, "-v", f"--basetemp={kept}", *arguments]
    process = subprocess.Popen(argv, cwd=REPOSITORY, env=environment)
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        print(f"\nnot done within {limit_s / 60:g} minutes: interrupted", flush=True)
        process.send_signal(signal.SIGINT)
    except KeyboardInterrupt:
        print("\ninterrupted", flush=True)  # pytest had the signal too
    try:
        process.wait(120)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return 1


def run_whole(kept: pathlib.Path, environment: dict[str, str], limit_s: float) -> int:
    """Everything, in two parts that share the time; 1 if either is red."""
    began_s = time.monotonic()
    beside = run(["-n", "2", "--dist", "worksteal", *SIDE_BY_SIDE], kept / "side-by-side", environment, limit_s)
    left_s = limit_s - (time.monotonic() - began_s)
    others = [str(FOLDER), *(f"--ignore={path}" for path in SIDE_BY_SIDE)]
    measured = {**environment, "BANKSMAN_FIGURES_WHOLE": "1"}
    return 1 if run(others, kept / "one-by-one", measured, max(left_s, 0.0)) or beside else 0


def main() -> int:
    """Parse, run, sum up."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=REPOSITORY / "build" / "faults.json", metavar="FILE")
    parser.add_argument("--minutes", type=float, default=40.0, help="interrupt it after this time (default 40)")
    options, rest = parser.parse_known_args()
    # A shell's background process starts with interrupts ignored, and so would pytest: the time limit needs them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    kept = options.out.absolute().with_suffix(".histories")
    kept.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "BANKSMAN_FIGURES": str(options.out.absolute())}
    limit_s = options.minutes * 60
    status = run(rest, kept, environment, limit_s) if rest else run_whole(kept, environment, limit_s)
    if not rest and os.geteuid() != 0:
        print(f"{root_cases()} cases need root and were left out")
    print(f"figures: {options.out}; histories: {kept} (look: python -m tests.history check|show)")
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main())
