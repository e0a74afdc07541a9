"""Masks secrets in a stream of bytes, wherever reads cut it.

Every occurrence of every needle is covered, overlapping ones as one; the token stands for each covered stretch. Only
bytes that may still be the beginning of a needle are held back, and nothing but more input or the end lets them go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runner_agent.shim.anchors import Anchor, anchors_of, united
from runner_agent.shim.needles import derive_needles

_HEAD = 4
# Occurrences of an anchor at which its needles are compared; where there are more, each is cheaper to search for.
_LOOKS = 64
_TOKENS = (b"***", b"[masked]", b"###")


class NeedleSet:
    """What to look for, shared by the streams of an attempt. It only grows."""

    def __init__(self, secrets: Iterable[bytes] = ()) -> None:
        self.anchors: list[Anchor] = []
        self.heads: dict[bytes, tuple[int, list[bytes]]] = {}
        self.short_prefixes: set[bytes] = set()
        self.token = _TOKENS[0]
        self._known: set[bytes] = set()
        self._used: set[int] = set()
        for secret in secrets:
            self.add(secret)

    def add(self, secret: bytes) -> bool:
        """Look for one more secret; False if it is too short to be masked."""
        derived = derive_needles(secret)
        self.add_needles(derived)
        return bool(derived)

    def add_needles(self, needles: Iterable[bytes]) -> None:
        """Look for these very byte strings, each longer than 4 bytes."""
        fresh = {needle: _period(needle) for needle in needles if needle not in self._known}
        self._known.update(fresh)
        self.anchors = united((*self.anchors, *anchors_of(fresh)))
        for needle in fresh:
            longest, alike = self.heads.get(needle[:_HEAD], (0, []))
            self.heads[needle[:_HEAD]] = (max(longest, len(needle) - 1), [*alike, needle])
            self.short_prefixes.update(needle[:size] for size in range(1, _HEAD))
        self._used.update(*fresh)
        # A token that shares no byte with any needle can never complete one.
        self.token = next((token for token in _TOKENS if not self._used.intersection(token)), _TOKENS[0])


class Masker:
    """One stream. `feed` returns what is certain, `finish` the rest.

    What `feed` returns may be a view of what it was given: use it before that memory is used again.
    """

    def __init__(self, needles: NeedleSet) -> None:
        self._needles = needles
        self._held = b""
        self._covered = 0  # so many of the held bytes stand under a token that was already written

    def feed(self, data: bytes | memoryview) -> bytes | memoryview:
        """Take the next bytes; return those, masked, that no later byte can change."""
        if not self._needles.anchors and not self._held:
            return data
        buffer = b"".join((self._held, data))
        return self._write(buffer, self._hold_from(buffer))

    def finish(self) -> bytes | memoryview:
        """The stream has ended: what was held back, masked."""
        if not self._held:
            return b""
        return self._write(self._held, len(self._held))

    def _write(self, buffer: bytes, hold: int) -> bytes | memoryview:
        spans = self._spans(buffer)
        covered = self._covered
        if not spans and not covered:
            self._held = buffer[hold:]
            return memoryview(buffer)[:hold] if hold < len(buffer) else buffer
        out: list[bytes | memoryview] = []
        view = memoryview(buffer)
        at = 0
        if covered:
            # The stretch whose token is written may go on.
            at = covered
            while spans and spans[0][0] < at:
                at = max(at, spans.pop(0)[1])
        for start, end in spans:
            if start >= hold:
                break
            out += (view[at:start], self._needles.token)
            at = end
        if at < hold:
            out.append(view[at:hold])
        self._held = buffer[hold:]
        self._covered = max(0, at - hold)
        return b"".join(out)

    def _spans(self, buffer: bytes) -> list[tuple[int, int]]:
        """The covered stretches, in order; those that overlap are one."""
        found: list[tuple[int, int]] = []
        find = buffer.find
        for anchor in self._needles.anchors:
            # A byte that is not there at all is known some ten times sooner than a string that is not.
            if anchor.rarest not in buffer:
                continue
            looks, at = _LOOKS, find(anchor.text)
            while at >= 0 and looks:
                for needle, _, place in anchor.needles:
                    if at >= place and buffer.startswith(needle, at - place):
                        found.append((at - place, at - place + len(needle)))
                looks, at = looks - 1, find(anchor.text, at + 1)
            if at >= 0:
                found += _searched(buffer, anchor, at)
        if len(found) < 2:
            return found
        found.sort()
        merged = [found[0]]
        for start, end in found[1:]:
            if start < merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        return merged

    def _hold_from(self, buffer: bytes) -> int:
        """Where the longest end of `buffer` begins that a needle begins with (and is longer than)."""
        size = len(buffer)
        hold = size
        for length in range(min(_HEAD - 1, size), 0, -1):
            if buffer[size - length :] in self._needles.short_prefixes:
                hold = size - length
                break
        for head, (longest, needles) in self._needles.heads.items():
            at = buffer.find(head, max(0, size - longest))
            while 0 <= at < hold:
                if any(size - at < len(needle) and needle.startswith(buffer[at:]) for needle in needles):
                    hold = at
                    break
                at = buffer.find(head, at + 1)
        return hold


def _searched(buffer: bytes, anchor: Anchor, first: int) -> Iterator[tuple[int, int]]:
    """Where the needles of an anchor stand that occurs from `first` on."""
    for needle, period, place in anchor.needles:
        at = buffer.find(needle, max(0, first - place))
        while at >= 0:
            yield at, at + len(needle)
            at = buffer.find(needle, at + period)


def _period(needle: bytes) -> int:
    """The smallest shift at which `needle` can overlap itself: no occurrence is missed by skipping that far."""
    borders = [0] * len(needle)
    length = 0
    for index in range(1, len(needle)):
        while length and needle[index] != needle[length]:
            length = borders[length - 1]
        if needle[index] == needle[length]:
            length += 1
        borders[index] = length
    return len(needle) - borders[-1]
