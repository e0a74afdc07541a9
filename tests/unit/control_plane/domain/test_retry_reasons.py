"""An end is tried again if its kind or its reason is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.domain.reason import Reason
from control_plane.domain.retry import RETRIED_REASONS, try_left
from control_plane.domain.spec import RETRY_ON_FAILED, RETRY_ON_TIMEOUT, RetryPolicy
from control_plane.domain.spec_rules import validate_spec
from tests.fakes.cases import run, spec


def policy(*retry_on: str, most: int = 3) -> RetryPolicy:
    return RetryPolicy(max_attempts=most, retry_on=retry_on)


@pytest.mark.parametrize(
    ("retry_on", "end", "reason", "again"),
    [
        ((), RETRY_ON_FAILED, Reason.EXIT_NONZERO, True),
        ((), RETRY_ON_TIMEOUT, Reason.RUN_TIMEOUT, False),
        (("timeout",), RETRY_ON_FAILED, Reason.EXIT_NONZERO, False),
        (("timeout",), RETRY_ON_TIMEOUT, Reason.IDLE_TIMEOUT, True),
        (("OOM_KILLED",), RETRY_ON_FAILED, Reason.OOM_KILLED, True),
        (("OOM_KILLED",), RETRY_ON_FAILED, Reason.EXIT_NONZERO, False),
        (("IDLE_TIMEOUT", "SIGNALLED"), RETRY_ON_TIMEOUT, Reason.IDLE_TIMEOUT, True),
        (("IDLE_TIMEOUT", "SIGNALLED"), RETRY_ON_TIMEOUT, Reason.RUN_TIMEOUT, False),
        (("IDLE_TIMEOUT", "failed"), RETRY_ON_FAILED, Reason.SIGNALLED, True),
    ],
)
def test_by_kind_or_reason(retry_on: tuple[str, ...], end: str, reason: Reason, again: bool) -> None:
    wanted = replace(spec(), retry=policy(*retry_on))
    assert try_left(wanted, replace(run(), tries=1), end, reason) is again
    assert not try_left(wanted, replace(run(), tries=3), end, reason), "its tries are used up"


def test_every_reason_that_can_be_tried_again_may_be_named_once() -> None:
    names = tuple(str(reason) for reason in RETRIED_REASONS)
    assert validate_spec(replace(spec(), retry=policy(*names)), lease_s=15.0) == ()


@pytest.mark.parametrize("name", ["USER_CANCEL", "EXIT_ZERO", "RUNNER_LOST", "DEADLINE_PASSED", "oom_killed", ""])
def test_what_is_never_tried_again_is_refused(name: str) -> None:
    (found,) = validate_spec(replace(spec(), retry=policy("failed", name)), lease_s=15.0)
    assert found.field == "spec.retry.retry_on[1]"


def test_a_reason_twice_is_refused() -> None:
    (found,) = validate_spec(replace(spec(), retry=policy("OOM_KILLED", "OOM_KILLED")), lease_s=15.0)
    assert found.field == "spec.retry.retry_on[1]"
