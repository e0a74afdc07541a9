"""A house whose programs count what they do."""

from __future__ import annotations

import pathlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tests.scenarios.house import House
from tests.shape.tally import Tally


class CountingHouse(House):
    """As a House; `tally` holds what its server, its agents, fork servers and shims have counted."""

    tally: Tally

    def prepare(self, root: pathlib.Path) -> Mapping[str, str]:
        self.tally = Tally(root / "tally")
        return self.tally.environment()

    def server_argv(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.shape.server"]

    def runner_argv(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.shape.runner"]

    @contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """What was counted in the block; filled in at its end."""
        before, found = self.tally.now(), Counter[str]()
        yield found
        found.update(self.tally.now() - before)
