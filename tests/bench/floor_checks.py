"""Is the floor honest? A slow floor would flatter every ratio, so the bench fails on one.

The rule. The floor's cost on the reference machine is made of parts (CPU, spawn, sync, disk) whose shares were
measured there. On this machine each part costs `here / reference` times as much, by the calibration; the expected
cost is the sum of the shares, so scaled. Of the calibrations before and after, the dearer counts for each part: a
machine that became slower meanwhile is not the floor's fault. The floor is honest when its speed is at least 80 % of
the speed so expected.

The shares come from the parts that were measured one by one on the reference machine: of 2.77 ms from the call to
the child's first instruction the child's own start takes 1.2 and two commits 0.45, the rest is Python and gRPC; a
queued run costs 2.7 ms of CPU, half of it the child's, and loses a tenth to commits (786/s without a database,
712/s with); submits lose a fifth (4,739/s, 3,793/s); of the 0.277 s for 100 MB of lines about 0.17 go through
pipes, gRPC and Python, the rest is the disk; a cancel holds one commit of 0.25 ms.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.machine import REFERENCE, Calibration

LEAST_SHARE = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A figure of the floor on the reference machine, and what it is made of."""

    figure: str
    value: float
    more_is_better: bool
    shares: Mapping[str, float]


REFERENCES = (
    Reference(
        figure="dispatch p50", value=2.77, more_is_better=False, shares={"cpu": 0.41, "spawn": 0.43, "sync": 0.16}
    ),
    Reference(figure="runs 8", value=712, more_is_better=True, shares={"cpu": 0.42, "spawn": 0.49, "sync": 0.09}),
    Reference(figure="submits", value=3793, more_is_better=True, shares={"cpu": 0.8, "sync": 0.2}),
    Reference(figure="log 0", value=362, more_is_better=True, shares={"cpu": 0.6, "disk": 0.4}),
    Reference(figure="cancel dead p50", value=2.42, more_is_better=False, shares={"cpu": 0.9, "sync": 0.1}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The floor's value against what the machine lets expect; `speed` is 1 when they are equal."""

    figure: str
    value: float
    expected: float
    speed: float

    @property
    def honest(self) -> bool:
        return self.speed >= LEAST_SHARE

    def words(self) -> str:
        verdict = "honest" if self.honest else f"TOO SLOW (below {LEAST_SHARE:.0%}), ratios are not to be believed"
        found = f"floor, {self.figure}: {self.value:.4g}, expected here {self.expected:.4g}"
        return f"{found}: {self.speed:.0%} of it, {verdict}"


def slowness(shares: Mapping[str, float], before: Calibration, after: Calibration) -> float:
    """How many times dearer than on the reference machine."""
    reference, first, last = REFERENCE.costs(), before.costs(), after.costs()
    return sum(share * max(first[part], last[part]) / reference[part] for part, share in shares.items())


def checks(floor: Mapping[str, Sequence[float]], before: Calibration, after: Calibration) -> list[Check]:
    """`floor` holds the floor's values by figure; figures that were not measured are not checked."""
    made = []
    for reference in REFERENCES:
        if not (values := floor.get(reference.figure)):
            continue
        value, scale = statistics.median(values), slowness(reference.shares, before, after)
        expected = reference.value / scale if reference.more_is_better else reference.value * scale
        speed = value / expected if reference.more_is_better else expected / value
        made.append(Check(figure=reference.figure, value=value, expected=expected, speed=speed))
    return made
