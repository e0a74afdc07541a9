"""May it be tried again, and when: exponential back-off with jitter that is passed in."""

from datetime import datetime, timedelta

from control_plane.domain import limits
from control_plane.domain.reason import Reason
from control_plane.domain.run import Run
from control_plane.domain.spec import RETRY_ON_FAILED, OnLost, RetryPolicy, RunSpec

_LONGEST_DOUBLING = 40


def delay_s(policy: RetryPolicy, earlier_retries: int, jitter: float) -> float:
    """Seconds until the next try: first delay doubled per earlier retry, at most the cap, less up to half by jitter.

    `jitter` lies in [0, 1); so the delay lies in (full / 2, full].
    """
    first = limits.DEFAULT_BACKOFF_S if policy.backoff_s is None else policy.backoff_s
    cap = limits.DEFAULT_BACKOFF_CAP_S if policy.backoff_cap_s is None else policy.backoff_cap_s
    full = min(max(cap, first), first * 2.0 ** min(earlier_retries, _LONGEST_DOUBLING))
    return full * (1.0 - jitter / 2.0)


def next_try_at(spec: RunSpec, run: Run, now: datetime, jitter: float) -> datetime | None:
    """When the run may be offered again; None if that is not before its deadline."""
    at = now + timedelta(seconds=delay_s(spec.retry, run.retry_count, jitter))
    if run.deadline is not None and at >= run.deadline:
        return None
    return at


# What `retry_on` may name beside the kinds of ends.
RETRIED_REASONS = (
    Reason.EXIT_NONZERO,
    Reason.SIGNALLED,
    Reason.OOM_KILLED,
    Reason.SPAWN_FAILED,
    Reason.CHECKOUT_FAILED,
    Reason.SECRET_UNAVAILABLE,
    Reason.RUN_TIMEOUT,
    Reason.IDLE_TIMEOUT,
    Reason.START_TIMEOUT,
    Reason.BLOCKED_BY_PERMISSIONS,
    Reason.VALIDATION_FAILED,
    Reason.PUBLISH_FAILED,
    Reason.API_AUTH,
    Reason.API_RATE_LIMITED,
    Reason.API_UNAVAILABLE,
    Reason.MAX_TURNS,
    Reason.MAX_BUDGET,
)


def try_left(spec: RunSpec, run: Run, end: str, reason: Reason) -> bool:
    """Whether an end of this kind ("failed", "timeout"), or for this reason, is retried.

    `run.tries` already counts the one that ended.
    """
    retried = spec.retry.retry_on or (RETRY_ON_FAILED,)
    return (end in retried or str(reason) in retried) and run.tries < max(1, spec.retry.max_attempts)


def infra_left(run: Run) -> bool:
    """Whether the run may return once more after a NOT_STARTED or a loss, which `run.infra_retries` already counts."""
    return run.infra_retries <= limits.INFRA_RETRIES


def retried_when_lost(spec: RunSpec) -> bool:
    return spec.loss.on_lost is OnLost.RETRY
