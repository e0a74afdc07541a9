"""What is asked of the house: specs with every policy, and programs that behave as badly as programs do."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from control_plane.domain.spec import Command, LossPolicy, OnLost, RetryPolicy, RunSpec, Step, StepKind

ENOENT, EAGAIN = 2, 11


@dataclass(frozen=True, slots=True)
class Play:
    """What one step's child does. `lasts_s` None: until killed. Stragglers: (at, stubborn, cookie, pipe, lasts)."""

    lasts_s: float | None
    code: int
    stubborn: bool
    errno: int
    output: tuple[tuple[float, int], ...]
    stragglers: tuple[tuple[float, bool, bool, bool, float], ...]


@dataclass(frozen=True, slots=True)
class Program:
    """The children of an attempt: drawn from the argv of its steps and its fence, so that every host plays the same."""

    argv: tuple[tuple[str, ...], ...]
    epoch: int

    def play(self, step: int) -> Play:
        words = json.loads(self.argv[step][1])
        rng = random.Random(f"{words['seed']}/{step}/{self.epoch & 0xFFFF}")
        longest_s = words["longest_s"]
        lasts_s: float | None = rng.uniform(0.01, longest_s)
        if rng.random() < words["never_ends"]:
            lasts_s = None
        upto_s = longest_s if lasts_s is None else lasts_s
        output = tuple(
            (rng.uniform(0.0, upto_s), rng.choice((20, 200, 3_000, 60_000)))
            for _ in range(rng.randrange(words["chunks"]))
        )
        stragglers = tuple(
            (rng.uniform(0.0, upto_s), rng.random() < 0.5, rng.random() < 0.5, rng.random() < 0.5, rng.uniform(1, 900))
            for _ in range(rng.choice((0, 0, 0, 1, 2)))
        )
        return Play(
            lasts_s=lasts_s,
            code=0 if rng.random() < 0.7 else 1,
            stubborn=rng.random() < 0.3,
            errno=rng.choice((ENOENT, EAGAIN)) if rng.random() < 0.03 else 0,
            output=tuple(sorted(output)),
            stragglers=stragglers,
        )


def spec(rng: random.Random, beat_s: float) -> RunSpec:
    """One to three steps under some mixture of policies."""
    never_ends = 0.1 if rng.random() < 0.2 else 0.0
    timeout_s = rng.uniform(5, 300) if never_ends or rng.random() < 0.3 else None
    words = {
        "seed": rng.getrandbits(40),
        "longest_s": rng.choice((0.5, 5, 60, 240, 400)),
        "never_ends": never_ends,
        "chunks": rng.choice((1, 4, 12)),
    }
    count = rng.choice((1, 1, 1, 2, 3))
    steps = tuple(
        Step(
            command=Command(argv=("play", json.dumps(words | {"step": index}))),
            kind=StepKind.MAIN,
            name=f"s{index}",
            timeout_s=rng.uniform(2, 200) if rng.random() < 0.15 else None,
            always=index > 0 and rng.random() < 0.2,
        )
        for index in range(count)
    )
    on_lost = OnLost.RETRY if rng.random() < 0.6 else OnLost.FAIL
    loss = LossPolicy(on_lost=on_lost, lost_after_s=beat_s * rng.choice((6, 9, 18, 60)))
    if rng.random() < 0.1:
        loss = LossPolicy(on_lost=OnLost.FAIL, never=True)
    attempts = rng.choice((1, 1, 2, 4))
    retry_on = rng.choice((("failed",), ("failed", "timeout")))
    return RunSpec(
        steps=steps,
        timeout_s=timeout_s,
        idle_timeout_s=rng.uniform(5, 120) if rng.random() < 0.15 else None,
        start_timeout_s=rng.choice((None, 20.0)),
        queue_timeout_s=rng.uniform(60, 600) if rng.random() < 0.15 else None,
        grace_s=rng.choice((0.0, 1.0, 10.0, None)),
        loss=loss,
        retry=RetryPolicy(max_attempts=attempts, backoff_s=rng.choice((1.0, 5.0)), retry_on=retry_on),
        slots=rng.choice((0, 0, 0, 2)),
    )
