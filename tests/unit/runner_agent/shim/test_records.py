"""A fork server's own dataclasses do what the standard ones do, and spare it what those load."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import runner_agent
from runner_agent.shim import records

ROOT = str(Path(runner_agent.__file__).parent.parent)
# What must not be loaded before the first fork: each fork copies the page tables of all of it.
SPARED = {"dataclasses", "inspect", "ast", "dis", "tokenize", "typing"}


def in_a_fork_server(program: str) -> str:
    """What the program prints in an interpreter that is started as a fork server is."""
    lines = f"import sys; sys.path.append({ROOT!r})\n{program}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", lines], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_fork_server_loads_nothing_that_makes_standard_dataclasses() -> None:
    loaded = in_a_fork_server(
        "from runner_agent.shim import codec, fork_server as f, rehearsal\n"
        "codec.warm(f.AttemptStart, f.MaskRequest); rehearsal.rehearse()\n"
        "print(*sys.modules)"
    )
    assert not SPARED & set(loaded.split())
    assert "runner_agent.shim.records" in loaded.split()


def test_elsewhere_they_are_the_standard_ones() -> None:
    assert records.dataclass.__module__ == "dataclasses"


# Run with both kinds: each line must print the same.
_PLAY = """
@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    "Without fields."

@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    "Frozen."
    number: int
    text: str = "x"
    hidden: bytes = field(default=b"", repr=False)
    pairs: tuple[tuple[int, int], ...] = ()

    @property
    def twice(self):
        return self.number * 2

    @classmethod
    def made(cls, number):
        return cls(number=number)

@dataclass(frozen=True, slots=True, kw_only=True)
class One:
    only: int

@dataclass(slots=True)
class Moving:
    number: int
    seen: list = field(default_factory=list)

def refused(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except TypeError:
        return True
    return False

one, same, other = Kept(number=1), Kept(number=1), Kept(number=2, text="y", hidden=b"z")
print(one, other, Nothing(), One(only=3), Moving(4))
print(one == same, one == other, one != other, one == 1, Nothing() == Nothing(), Nothing() == One(only=1))
print(hash(one) == hash(same), len({one, same, other}), hash(Nothing()) == hash(Nothing()))
print(replace(one, text="z"), replace(other, number=5, pairs=((1, 2),)), replace(One(only=1), only=2))
print(replace(other, number=5).hidden, one.twice, Kept.made(7), Kept.__doc__, Kept.__qualname__, Kept.__slots__)
print(refused(Kept), refused(Kept, 1), refused(Kept, number=1, more=2), refused(replace, one, more=2))
first, second = Moving(1), Moving(number=1)
first.seen.append(1)
first.number = 8
print(first, second, refused(hash, first), first == Moving(8, [1]), Moving.__slots__)
print(hasattr(one, "__dict__"), hasattr(first, "__dict__"), Kept.__module__ == __name__)
"""


def test_they_do_what_the_standard_ones_do() -> None:
    head = inspect.cleandoc("from __future__ import annotations\nfrom {} import dataclass, field, replace")
    play = "exec(compile({!r}, 'play', 'exec'))"
    ours = in_a_fork_server(play.format(head.format("runner_agent.shim.records") + _PLAY))
    standard = in_a_fork_server(play.format(head.format("dataclasses") + _PLAY))
    assert ours == standard
    assert len(ours.splitlines()) == 8
