"""Draw the run's and the attempt's state diagrams in ARCHITECTURE.md from the tables in the code.

Without arguments: fail if the drawn ones are not fresh. With --write: draw them anew.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Mapping

from control_plane.domain.attempt import ATTEMPT_TABLE
from control_plane.domain.run import RUN_TABLE

ARCHITECTURE = pathlib.Path(__file__).resolve().parent.parent / "ARCHITECTURE.md"


def draw(table: Mapping[str, Mapping[str, str]], first: str) -> str:
    """One Mermaid state diagram; events that lead the same way share an arrow."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    for state, moves in table.items():
        targets: dict[str, list[str]] = {}
        for event, target in moves.items():
            targets.setdefault(str(target), []).append(str(event))
        lines += [f"    {state} --> {target}: {', '.join(events)}" for target, events in targets.items()]
        if not moves:
            lines.append(f"    {state} --> [*]")
    return "\n".join([*lines, "```"])


def replace(text: str, name: str, drawing: str) -> str:
    """Put the drawing between its two markers."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if begin not in text or end not in text:
        raise SystemExit(f"ARCHITECTURE.md has no place for the {name}: wanted are the lines {begin} and {end}")
    head, rest = text.split(begin, 1)
    return head + begin + "\n" + drawing + "\n" + end + rest.split(end, 1)[1]


def main() -> int:
    """Return 0 when ARCHITECTURE.md shows the tables as they are."""
    before = ARCHITECTURE.read_text()
    after = replace(before, "run states", draw(RUN_TABLE, "QUEUED"))
    after = replace(after, "attempt states", draw(ATTEMPT_TABLE, "OFFERED"))
    if "--write" in sys.argv[1:]:
        ARCHITECTURE.write_text(after)
    elif after != before:
        sys.stderr.write("the state diagrams of ARCHITECTURE.md are not fresh; say: make diagrams\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
