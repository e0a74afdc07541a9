"""What to look for first: a few strings of which each needle contains one, so that a log is not searched for them all.

Most forms of a secret (quoted for a shell, for JSON, for a URL) leave its letters and digits as they are. Where the
longest run of those does not occur, none of these forms does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from runner_agent.shim.records import dataclass

_RUN = re.compile(rb"[A-Za-z0-9._~-]{6,}")
# Bytes of ordinary logs, the most frequent first. One that is not among them is rarer than all of them.
_FREQUENT = b" eatoinsrlcdpumgfhbvykw0123456789.:/-_=\n\",x[]()SETAINRCOLDPMUFBGHVWYK{}'jqzXJZQ"
_RANK = {byte: -rank for rank, byte in enumerate(_FREQUENT)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A string that all of `needles` contain, and the byte of it that logs have the least of.

    `needles` are (needle, the smallest shift at which it can overlap itself, where `text` lies in it first).
    """

    text: bytes
    rarest: int
    needles: tuple[tuple[bytes, int, int], ...]


def anchors_of(needles: Mapping[bytes, int]) -> list[Anchor]:
    """Anchors that together stand for all needles; a needle that shares nothing with another is its own."""
    made: list[Anchor] = []
    left = dict.fromkeys(sorted(needles, key=len))
    while left:
        first = next(iter(left))
        run = max(_RUN.findall(first), key=len, default=first)
        alike = [needle for needle in left if run in needle]
        text = run if len(alike) > 1 else first
        for needle in alike:
            del left[needle]
        rarest = min(text, key=lambda byte: _RANK.get(byte, -len(_FREQUENT)))
        places = tuple((needle, needles[needle], needle.index(text)) for needle in alike)
        made.append(Anchor(text=text, rarest=rarest, needles=places))
    return made


def united(anchors: Iterable[Anchor]) -> list[Anchor]:
    """The same, with each text once: secrets are often made alike."""
    made: dict[bytes, Anchor] = {}
    for anchor in anchors:
        known = made.get(anchor.text)
        needles = anchor.needles if known is None else known.needles + anchor.needles
        made[anchor.text] = Anchor(text=anchor.text, rarest=anchor.rarest, needles=needles)
    return list(made.values())
