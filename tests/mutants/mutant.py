"""One seeded bug as data, and what may count as having noticed it."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

# Whoever lives here watches the product from outside: real processes, a real wire, or its own decisions at play.
WATCHERS = ("tests/scenarios/", "tests/simulation/", "tests/history/", "tests/faults/", "tests/integration/")


class Unfit(Exception):
    """The mutant cannot be tried as it is written; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """`old` must stand in `file` exactly once. `killers` are pytest's node ids, or command lines after `python -m `.

    `rule` is the rule that the change breaks, in a sentence.
    """

    name: str
    rule: str
    file: str
    old: str
    new: str
    killers: tuple[str, ...]

    def applied_to(self, text: str) -> str:
        """The file's text with the bug in it. Raises Unfit."""
        found = text.count(self.old)
        if found != 1:
            raise Unfit(f"its line stands {found} times in {self.file}, not once")
        changed = text.replace(self.old, self.new)
        if changed == text:
            raise Unfit("it changes nothing")
        try:
            compile(changed, self.file, "exec")
        except SyntaxError as error:
            raise Unfit(f"{self.file} does not compile with it: {error}") from None
        return changed

    def apply(self, root: pathlib.Path) -> None:
        """Change the file in a copy of the tree. Raises Unfit."""
        path = root / self.file
        changed = self.applied_to(path.read_text(encoding="utf-8"))
        for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            stale.unlink()
        path.write_text(changed, encoding="utf-8")

    @property
    def module(self) -> str:
        """The name by which the changed file is imported."""
        return self.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def tests(self) -> tuple[str, ...]:
        return tuple(killer for killer in self.killers if not is_command(killer))

    @property
    def commands(self) -> tuple[str, ...]:
        return tuple(killer for killer in self.killers if is_command(killer))


def is_command(killer: str) -> bool:
    """Whether it is run by `python -m` instead of by pytest."""
    return "::" not in killer and not killer.endswith(".py")
