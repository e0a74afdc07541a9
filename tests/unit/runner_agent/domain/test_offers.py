"""Which offers are taken, and what becomes of an acceptance that leads to nothing."""

from __future__ import annotations

import pytest

from runner_agent.domain.events import Forgotten, JournalDone, JournalFailed, LeaveRequested, Tick
from runner_agent.domain.held import Held, Phase
from runner_agent.domain.messages import Drain, Fenced, OfferReply, RejectReason, Release, Resume, VerdictKind, Withdraw
from runner_agent.domain.outputs import EndUnstarted, Forget, JournalAccept
from runner_agent.domain.state import Identity, initial_state

from .core import Core, assignment, key, verdict


def connected(*found: Held, slots: int = 2) -> Core:
    core = Core(*found, identity=Identity(agent_version="1", slots=slots))
    core.connect()
    return core


def refusal(core: Core) -> tuple[RejectReason | None, str]:
    reply = core.said(OfferReply)[-1]
    return reply.reject, reply.note


def test_the_acceptance_is_on_disk_before_it_is_told() -> None:
    core = connected()
    assert [type(output) for output in core.offer()] == [JournalAccept]
    assert core.said(OfferReply) == []
    core.feed(JournalDone(key=key()))
    assert refusal(core) == (None, "")


def test_an_acceptance_that_is_not_on_disk_is_a_refusal() -> None:
    core = connected()
    core.offer()
    core.feed(JournalFailed(key=key(), error="disk full"))
    assert refusal(core)[0] is RejectReason.IO_ERROR
    assert "disk full" in refusal(core)[1]
    assert core.made(Forget)[0].key == key()


@pytest.mark.parametrize(
    ("phase", "taken"),
    [
        (Phase.ACCEPTING, True),
        (Phase.ACCEPTED, True),
        (Phase.PREPARING, True),
        (Phase.FORKING, True),
        (Phase.RUNNING, True),
        (Phase.STOPPING, True),
        (Phase.ENDING, True),
        (Phase.UNKNOWN_SHIM, True),
        (Phase.UNSTARTED, False),
        (Phase.EXITED, False),
        (Phase.FORGETTING, False),
        (Phase.QUARANTINED, False),
    ],
)
def test_what_takes_a_slot(phase: Phase, taken: bool) -> None:
    core = connected(Held(key=key("other"), phase=phase), slots=1)
    core.offer()
    assert (core.phase() is None) is taken
    if taken:
        assert refusal(core) == (RejectReason.NO_SLOT, "0 of 1 slots are free")


def test_an_attempt_may_take_several_slots() -> None:
    core = connected(slots=3)
    core.offer("a", slots=2)
    core.offer("b", slots=2)
    assert refusal(core)[0] is RejectReason.NO_SLOT
    core.offer("c", slots=4)
    assert refusal(core)[0] is RejectReason.UNSUPPORTED
    core.offer("d", slots=1)
    assert core.phase("d") is Phase.ACCEPTING


@pytest.mark.parametrize("run", ["", "a/b", "..", ".hidden", "a\0b", "ü", "x" * 201])
def test_an_id_that_could_lead_out_of_the_state_directory_is_refused(run: str) -> None:
    core = connected()
    core.offer(run)
    assert core.phase(run) is None
    assert refusal(core)[0] is RejectReason.UNSUPPORTED


def test_a_draining_runner_refuses() -> None:
    core = connected()
    core.hear(Drain())
    core.offer("a")
    assert refusal(core)[0] is RejectReason.DRAINING
    core.hear(Resume())
    core.offer("b")
    assert core.phase("b") is Phase.ACCEPTING
    core.feed(LeaveRequested())
    core.offer("c")
    assert refusal(core)[0] is RejectReason.DRAINING


def test_a_full_disk_refuses() -> None:
    core = connected()
    core.state = initial_state(core.state.identity, (), min_disk_free_bytes=100)
    core.connect()
    core.feed(Tick(load=0, disk_free_bytes=99))
    core.offer("a")
    assert refusal(core)[0] is RejectReason.LOW_DISK
    core.feed(Tick(load=0, disk_free_bytes=100))
    core.offer("b")
    assert core.phase("b") is Phase.ACCEPTING


def test_too_many_attempts_that_wait_for_their_release_refuse() -> None:
    core = connected(*(Held(key=key(f"old{i}"), phase=Phase.EXITED) for i in range(1_002)))
    core.offer()
    assert refusal(core)[0] is RejectReason.LOW_DISK


def test_a_repeated_offer_is_accepted_again_without_writing() -> None:
    core = connected()
    core.accept()
    core.offer()
    assert [reply.reject for reply in core.said(OfferReply)] == [None, None]
    assert len(core.made(JournalAccept)) == 1


def test_a_belated_offer_of_a_released_attempt_starts_nothing() -> None:
    core = connected()
    core.run()
    core.end()
    core.hear(Release(key=key()))
    core.forgotten()
    assert core.phase() is None
    core.offer()
    core.hear(assignment())
    assert core.phase() is None
    assert refusal(core)[0] is RejectReason.UNSUPPORTED
    core.offer(epoch=2)
    assert core.phase(epoch=2) is Phase.ACCEPTING


@pytest.mark.parametrize("told", [Withdraw(key=key()), Release(key=key())])
def test_an_offer_that_is_withdrawn_is_forgotten(told: Withdraw | Release) -> None:
    core = connected()
    core.accept()
    core.hear(told)
    assert core.phase() is Phase.FORGETTING
    core.feed(Forgotten(key=key()))
    assert core.phase() is None


def test_a_withdrawal_that_overtakes_the_disk_is_kept_in_mind() -> None:
    core = connected()
    core.offer()
    core.hear(Withdraw(key=key()))
    core.feed(JournalDone(key=key()))
    assert core.said(OfferReply) == []
    assert core.phase() is Phase.FORGETTING


def test_a_fenced_acceptance_ends_unstarted_and_goes_when_it_is_fenced_again() -> None:
    core = connected()
    core.accept()
    core.hear(Fenced(key=key(), current_lease_epoch=2))
    assert core.made(EndUnstarted)
    core.end(how=core.made(EndUnstarted)[0].report)
    assert core.phase() is Phase.UNSTARTED
    core.hear(Fenced(key=key(), current_lease_epoch=2))
    assert core.phase() is Phase.FORGETTING


def test_an_acceptance_that_the_server_does_not_know_is_dropped_so_that_the_run_can_be_offered_again() -> None:
    core = Core(Held(key=key(), phase=Phase.ACCEPTED))
    core.connect(verdict(VerdictKind.UNKNOWN))
    assert core.phase() is Phase.FORGETTING


def test_a_run_that_the_server_does_not_know_is_kept() -> None:
    core = Core(Held(key=key("live"), phase=Phase.RUNNING), Held(key=key("over"), phase=Phase.EXITED))
    core.connect(verdict(VerdictKind.UNKNOWN, "live"), verdict(VerdictKind.UNKNOWN, "over"))
    assert (core.phase("live"), core.phase("over")) == (Phase.RUNNING, Phase.EXITED)
    assert core.made(Forget) == []
