"""Seed each bug of the catalogue in turn, and fail unless a watcher notices it: `python -m tests.mutants`."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from tests.mutants.catalogue import MUTANTS
from tests.mutants.copies import REPOSITORY, copy_of_the_working_tree
from tests.mutants.mutant import Mutant
from tests.mutants.trial import Outcome, Verdict, run_command, run_tests, try_mutant

AT_ONCE = 2
# That the programs which scenarios start are those of the copy.
SAME_TREE = "tests/scenarios/test_rules_on_the_host.py::test_every_program_comes_from_the_tree_of_its_test"


def main(argv: Sequence[str] | None = None) -> int:
    """0: every bug was noticed. 1: one was not. 2: the tests are red as it is, or the call is wrong."""
    options = _options(argv)
    chosen = [mutant for mutant in MUTANTS if not options.only or mutant.name in options.only]
    unknown = set(options.only) - {mutant.name for mutant in chosen}
    if unknown:
        print(f"no such mutant: {', '.join(sorted(unknown))}; --list shows them all", file=sys.stderr)
        return 2
    if options.list:
        for mutant in chosen:
            print(f"{mutant.name:<34} {mutant.rule}")
        return 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bnk-mutants-") as place:
        base = pathlib.Path(place) / "base"
        copy_of_the_working_tree(base, options.tree)
        if not options.no_baseline and not _unmutated(base, chosen):
            return 2
        verdicts = _try_all(base, chosen, options.at_once)
    return _tell(verdicts, time.monotonic() - began, options.json)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the mutants and their rules, and do nothing")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only this one (repeatable)")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, metavar="N", help="how many are tried side by side")
    parser.add_argument("--no-baseline", action="store_true", help="believe that the tests are green as it is")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the table here too")
    parser.add_argument("--tree", type=pathlib.Path, default=REPOSITORY, help="the tree to seed bugs in")
    return parser.parse_args(argv)


def _unmutated(base: pathlib.Path, chosen: Sequence[Mutant]) -> bool:
    """Everything that is named must be green before a bug is seeded: else it proves nothing."""
    began = time.monotonic()
    tests = sorted({SAME_TREE, *(test for mutant in chosen for test in mutant.tests)})
    commands = sorted({command for mutant in chosen for command in mutant.commands})
    print(f"without a bug: {len(tests)} tests, {len(commands)} commands ...", flush=True)
    green = True
    status, reds, said = run_tests(base, tests, "-n", str(AT_ONCE))
    for red in reds:
        print(f"  red without a bug: {red.test}: {red.line}")
    if status != 0:
        print(said[-2_000:])
        green = False
    for command in commands:
        status, said = run_command(base, command)
        if status != 0:
            print(f"  red without a bug: python -m {command}\n{said[-2_000:]}")
            green = False
    print(f"without a bug: {'green' if green else 'RED'} after {time.monotonic() - began:.0f} s", flush=True)
    return green


def _try_all(base: pathlib.Path, chosen: Sequence[Mutant], at_once: int) -> list[Verdict]:
    verdicts = []
    with ThreadPoolExecutor(at_once, thread_name_prefix="trial") as pool:
        trials = [pool.submit(try_mutant, base, mutant) for mutant in chosen]
        for number, trial in enumerate(as_completed(trials), start=1):
            verdict = trial.result()
            verdicts.append(verdict)
            who = f" by {verdict.killer}" if verdict.killer else ""
            head = f"[{number:>2}/{len(chosen)}] {verdict.mutant.name}: {verdict.outcome}{who}"
            print(f"{head} ({verdict.seconds:.1f} s)\n        {verdict.line or verdict.mutant.rule}", flush=True)
    return sorted(verdicts, key=lambda verdict: chosen.index(verdict.mutant))


def _tell(verdicts: Sequence[Verdict], seconds: float, path: pathlib.Path | None) -> int:
    bad = [verdict for verdict in verdicts if verdict.outcome is not Outcome.KILLED]
    print(f"\n{len(verdicts) - len(bad)} of {len(verdicts)} seeded bugs were noticed, in {seconds:.0f} s")
    for verdict in bad:
        print(f"  {verdict.outcome}: {verdict.mutant.name}: {verdict.mutant.rule} {verdict.line}")
    if path is not None:
        rows = [
            {
                "mutant": verdict.mutant.name,
                "rule": verdict.mutant.rule,
                "outcome": verdict.outcome,
                "killer": verdict.killer,
                "line": verdict.line,
                "seconds": round(verdict.seconds, 1),
            }
            for verdict in verdicts
        ]
        path.write_text(json.dumps({"seconds": round(seconds, 1), "mutants": rows}, indent=2) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
