"""How long a silent runner's attempt is waited for. Seconds."""

from control_plane.domain import limits
from control_plane.domain.spec import OnLost, RunSpec
from control_plane.domain.timing import Timing


def lost_after_s(spec: RunSpec) -> float | None:
    """The spec's word, or its default by on_lost; None: never."""
    if spec.loss.never:
        return None
    if spec.loss.lost_after_s is not None:
        return spec.loss.lost_after_s
    if spec.loss.on_lost is OnLost.RETRY:
        return limits.DEFAULT_LOST_AFTER_RETRY_S
    return limits.DEFAULT_LOST_AFTER_FAIL_S


def freed_after_s(spec: RunSpec, timing: Timing, stop_grace_s: float = 0.0) -> float | None:
    """From the receipt of the newest renewal until the server may call the attempt lost; None: never.

    The runner stops itself `lost_after` after it *sent* that renewal and is done a grace later, so whatever the two
    clocks drift apart within the margin, the old process is gone before the run is free.
    """
    silent_s = lost_after_s(spec)
    if silent_s is None:
        return None
    return silent_s + max(spec.grace, stop_grace_s) + timing.loss_margin(silent_s)
