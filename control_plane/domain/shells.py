"""Which element of an argv a shell would read as a program: no value may land there unasked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

# sh, bash, dash, zsh, ksh, mksh, ash, fish, csh, tcsh, rbash ... also with a version behind it.
_SHELL = re.compile(r"-?(?:r?ba|da|r?z|r?k|pdk|mk|lok|a|fi|c|tc|ya|po|o|y|xon|pw|)sh(?:-?[0-9.]+)?|nu|elvish")
# They hand the text behind -c to a shell, wherever it stands.
_CALLERS = frozenset({"su", "runuser", "flock", "script", "watch"})
_CLUSTER = re.compile(r"[-+][A-Za-z]*c[A-Za-z]*")
_LONG = frozenset({"--command", "--session-command", "--init-command", "-command", "-Command"})
# Options of shells that take the next element as their value.
_WITH_VALUE = frozenset({"-o", "+o", "-O", "+O", "--rcfile", "--init-file", "--config", "--env-config"})


def program_elements(argv: Sequence[str]) -> frozenset[int]:
    """Indexes of the elements that follow a shell's `-c`: they are programs, not data."""
    found: set[int] = set()
    for index, element in enumerate(argv):
        name = element.rsplit("/", 1)[-1]
        if _SHELL.fullmatch(name):
            found.update(_of_shell(argv, index + 1))
        elif name in _CALLERS:
            found.update(_of_caller(argv, index + 1))
    return frozenset(found)


def _of_shell(argv: Sequence[str], start: int) -> Iterator[int]:
    """Options end at the first operand; with a -c among them that operand is the program."""
    has_command = False
    index = start
    while index < len(argv):
        element = argv[index]
        if element in ("--", "-") and has_command:
            yield from (index + 1,) if index + 1 < len(argv) else ()
            return
        if not element.startswith(("-", "+")):
            if has_command:
                yield index
            return
        if element in _LONG or _CLUSTER.fullmatch(element):
            has_command = True
            yield from (index + 1,) if index + 1 < len(argv) else ()
        elif element.startswith(("--command=", "--init-command=")):
            yield index
        index += 2 if element in _WITH_VALUE else 1


def _of_caller(argv: Sequence[str], start: int) -> Iterator[int]:
    for index in range(start, len(argv)):
        element = argv[index]
        if element.startswith(("--command=", "--session-command=")):
            yield index
        elif (element in _LONG or _CLUSTER.fullmatch(element)) and index + 1 < len(argv):
            yield index + 1
