"""Every (phase, cue) pair of an attempt, legal and not, and what the table as a whole never does."""

from __future__ import annotations

from itertools import product

import pytest

from runner_agent.domain.attempt_table import ATTEMPT_TABLE, Act, Cue, move
from runner_agent.domain.held import LIVE, OVER, Phase

P, C, A = Phase, Cue, Act
MAY_END = (P.FORKING, P.RUNNING, P.STOPPING, P.ENDING, P.UNKNOWN_SHIM)

# The whole truth, written a second time and in another form: cue by cue. What is not here moves nothing.
EXPECTED: dict[Cue, dict[Phase, tuple[Phase, tuple[Act, ...]]]] = {
    C.OFFERED: {P.ACCEPTED: (P.ACCEPTED, (A.TELL_ACCEPT,))},
    C.WITHDRAWN: {
        P.ACCEPTING: (P.FORGETTING, (A.FORGET,)),
        P.ACCEPTED: (P.FORGETTING, (A.FORGET,)),
        P.UNSTARTED: (P.FORGETTING, (A.FORGET,)),
    },
    C.ASSIGNED: {
        P.ACCEPTED: (P.PREPARING, (A.PREPARE,)),
        P.UNSTARTED: (P.UNSTARTED, (A.TELL_EXIT,)),
        P.EXITED: (P.EXITED, (A.TELL_EXIT,)),
    },
    C.ASSIGNED_LATE: {
        P.ACCEPTED: (P.ENDING, (A.END_UNSTARTED,)),
        P.UNSTARTED: (P.UNSTARTED, (A.TELL_EXIT,)),
        P.EXITED: (P.EXITED, (A.TELL_EXIT,)),
    },
    C.STOP_ORDERED: {
        P.ACCEPTED: (P.ENDING, (A.TELL_STOP, A.END_UNSTARTED)),
        P.PREPARING: (P.ENDING, (A.TELL_STOP, A.END_UNSTARTED)),
        P.FORKING: (P.STOPPING, (A.STOP_TREE, A.TELL_STOP)),
        P.RUNNING: (P.STOPPING, (A.STOP_TREE, A.TELL_STOP)),
        P.STOPPING: (P.STOPPING, (A.STOP_TREE, A.TELL_STOP)),
        P.ENDING: (P.ENDING, (A.TELL_STOP,)),
        P.UNSTARTED: (P.UNSTARTED, (A.TELL_EXIT,)),
        P.EXITED: (P.EXITED, (A.TELL_EXIT,)),
        P.UNKNOWN_SHIM: (P.UNKNOWN_SHIM, (A.TERMINATE_SHIM,)),
    },
    C.FENCED: {
        P.ACCEPTING: (P.FORGETTING, (A.FORGET,)),
        P.ACCEPTED: (P.ENDING, (A.END_UNSTARTED,)),
        P.PREPARING: (P.ENDING, (A.END_UNSTARTED,)),
        P.FORKING: (P.STOPPING, (A.STOP_TREE,)),
        P.RUNNING: (P.STOPPING, (A.STOP_TREE,)),
        P.STOPPING: (P.STOPPING, (A.STOP_TREE,)),
        P.UNSTARTED: (P.FORGETTING, (A.FORGET,)),
        P.UNKNOWN_SHIM: (P.UNKNOWN_SHIM, (A.TERMINATE_SHIM,)),
    },
    C.UNKNOWN: {
        P.ACCEPTED: (P.FORGETTING, (A.FORGET,)),
        P.UNSTARTED: (P.FORGETTING, (A.FORGET,)),
    },
    C.RELEASED: {
        P.ACCEPTING: (P.FORGETTING, (A.FORGET,)),
        P.ACCEPTED: (P.FORGETTING, (A.FORGET,)),
        P.UNSTARTED: (P.FORGETTING, (A.FORGET,)),
        P.EXITED: (P.FORGETTING, (A.FORGET,)),
        P.QUARANTINED: (P.QUARANTINED, (A.DROP,)),
    },
    C.EXIT_WANTED: {
        P.UNSTARTED: (P.UNSTARTED, (A.TELL_EXIT,)),
        P.EXITED: (P.EXITED, (A.TELL_EXIT,)),
    },
    C.JOURNALLED: {P.ACCEPTING: (P.ACCEPTED, (A.TELL_ACCEPT,))},
    C.JOURNAL_FAILED: {P.ACCEPTING: (P.FORGETTING, (A.REFUSE_IO, A.FORGET))},
    C.PREPARED: {P.PREPARING: (P.FORKING, (A.FORK,))},
    C.PREPARE_FAILED: {P.PREPARING: (P.ENDING, (A.END_UNSTARTED,))},
    C.STARTED: {
        P.FORKING: (P.RUNNING, (A.TELL_STARTED,)),
        P.STOPPING: (P.STOPPING, (A.TELL_STARTED,)),
    },
    C.STOP_MOVED: {
        P.RUNNING: (P.STOPPING, (A.TELL_STOP,)),
        P.STOPPING: (P.STOPPING, (A.TELL_STOP,)),
    },
    C.ENDED: dict.fromkeys(MAY_END, (P.EXITED, (A.TELL_EXIT,))),
    C.NEVER_STARTED: dict.fromkeys(MAY_END, (P.UNSTARTED, (A.TELL_EXIT,))),
    C.FORGOTTEN: {P.FORGETTING: (P.FORGETTING, (A.DROP,))},
    C.SHUT_DOWN: {
        P.ACCEPTING: (P.FORGETTING, (A.REFUSE_DRAINING, A.FORGET)),
        P.ACCEPTED: (P.ENDING, (A.END_UNSTARTED,)),
        P.PREPARING: (P.ENDING, (A.END_UNSTARTED,)),
        P.FORKING: (P.STOPPING, (A.STOP_TREE,)),
        P.RUNNING: (P.STOPPING, (A.STOP_TREE,)),
        P.STOPPING: (P.STOPPING, (A.STOP_TREE,)),
        P.UNKNOWN_SHIM: (P.UNKNOWN_SHIM, (A.TERMINATE_SHIM,)),
    },
    C.START_TIMED_OUT: {P.PREPARING: (P.ENDING, (A.END_UNSTARTED,))},
    C.LOSS_PASSED: {P.PREPARING: (P.ENDING, (A.END_UNSTARTED,))},
}
PAIRS = list(product(Phase, Cue))


@pytest.mark.parametrize(("phase", "cue"), PAIRS, ids=[f"{phase}-{cue}" for phase, cue in PAIRS])
def test_every_pair_moves_as_written(phase: Phase, cue: Cue) -> None:
    assert move(phase, cue) == EXPECTED[cue].get(phase, (phase, ()))


def test_only_a_prepared_assignment_is_forked() -> None:
    forks = {(phase, cue) for phase, cues in ATTEMPT_TABLE.items() for cue, (_, acts) in cues.items() if A.FORK in acts}
    assert forks == {(P.PREPARING, C.PREPARED)}


def test_no_way_leads_back_to_a_fork() -> None:
    after, todo = set(), [P.FORKING]
    while todo:
        for target, _ in ATTEMPT_TABLE[todo.pop()].values():
            if target not in after:
                after.add(target)
                todo.append(target)
    assert P.PREPARING not in after
    assert P.FORKING not in after


def test_what_may_have_processes_is_never_forgotten() -> None:
    for phase in LIVE - {P.ENDING}:
        assert all(A.FORGET not in acts and A.DROP not in acts for _, acts in ATTEMPT_TABLE[phase].values())


def test_an_attempt_that_is_over_only_repeats_its_end_or_goes() -> None:
    for phase in OVER:
        for target, acts in ATTEMPT_TABLE[phase].values():
            assert (target, acts) in ((phase, (A.TELL_EXIT,)), (P.FORGETTING, (A.FORGET,)))


@pytest.mark.parametrize("phase", sorted(LIVE | {P.ACCEPTED, P.ACCEPTING}))
def test_a_stop_or_fence_always_has_a_way_to_an_end(phase: Phase) -> None:
    seen, todo = {phase}, [phase]
    while todo:
        for cue, (target, _) in ATTEMPT_TABLE[todo.pop()].items():
            if cue is not C.PREPARED and target not in seen:
                seen.add(target)
                todo.append(target)
    assert seen & (OVER | {P.FORGETTING})
