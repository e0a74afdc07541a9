"""The ten rules of the session protocol, where they concern the agent: each by the trace that breaks without it."""

from __future__ import annotations

import pytest

from runner_agent.domain.events import Exited, JournalDone, Prepared, Started
from runner_agent.domain.exit_report import Outcome, not_started
from runner_agent.domain.held import Held, Phase
from runner_agent.domain.messages import (
    AttemptExited,
    AttemptStarted,
    Fenced,
    Heartbeat,
    HeartbeatAck,
    HeldPhase,
    Hello,
    Release,
    VerdictKind,
    Withdraw,
)
from runner_agent.domain.outputs import AckLog, EndUnstarted, Forget, Fork, OpenLog, Prepare, RenewLoss, StopTree
from runner_agent.domain.reason import Reason
from runner_agent.domain.state import Identity

from .core import Core, S, assignment, key, report, sent, stop, verdict


def connected() -> Core:
    core = Core()
    core.connect()
    return core


def test_rule_1_exit_any__an_exit_is_told_whatever_was_heard_of_the_start() -> None:
    """One message lost: ('started', 1). The exit must not need it."""
    core = connected()
    core.accept()
    core.hear(assignment())
    core.feed(Prepared(key=key()))
    assert sent(core.end(), AttemptExited)[0].key == key()
    assert core.said(AttemptStarted) == []
    for cue in (Outcome.NOT_STARTED, Outcome.START_FAILED):
        other = connected()
        other.accept()
        other.hear(assignment())
        other.feed(Prepared(key=key()))
        other.hear(stop())
        assert sent(other.end(how=report(cue)), AttemptExited)[0].exit.outcome is cue


def test_rule_2_resend_assignment__what_was_accepted_takes_the_assignment_of_any_later_verdict() -> None:
    """One message lost: ('asg', 1). The verdict on the next held set brings it again, and it forks once."""
    core = connected()
    core.accept()
    (beat,) = sent(core.tick(5), Heartbeat)
    assert [entry.phase for entry in beat.held] == [HeldPhase.ACCEPTED]
    again = verdict(VerdictKind.START, assignment=assignment(), renewed=True)
    core.hear(HeartbeatAck(seq=beat.seq, next_interval_s=5, verdicts=(again,)))
    core.hear(HeartbeatAck(seq=beat.seq, next_interval_s=5, verdicts=(again,)))
    core.hear(assignment())
    core.feed(Prepared(key=key()))
    core.hear(assignment())
    assert len(core.made(Prepare)) == 1
    assert len(core.made(Fork)) == 1


def test_rule_2_resend_assignment__after_a_restart_too() -> None:
    core = Core(Held(key=key(), phase=Phase.ACCEPTED))
    (hello,) = sent(core.open(), Hello)
    assert [entry.phase for entry in hello.inventory] == [HeldPhase.ACCEPTED]
    core.welcome(verdict(VerdictKind.START, assignment=assignment(), renewed=True))
    assert len(core.made(Prepare)) == 1


def test_rule_3_log_by_attempt__the_log_of_a_finished_attempt_goes_on_beside_the_next_one() -> None:
    """No fault at all: exit x1, then an offer of epoch 2. The log of epoch 1 is still sent, and kept until Release."""
    core = connected()
    core.run()
    core.end(how=report(Outcome.ENDED_BADLY, final_offset=100))
    core.accept(epoch=2)
    core.hear(assignment(epoch=2))
    assert core.phase(epoch=1) is Phase.EXITED
    core.cut()
    core.open()
    core.welcome(
        verdict(VerdictKind.KEEP, exit_stored=True, resume_offset=40),
        verdict(VerdictKind.KEEP, epoch=2, renewed=True),
    )
    opened = [output for output in core.made(OpenLog) if output.key == key()]
    assert (opened[-1].offset, opened[-1].spooled_offset) == (40, 100)
    assert not [output for output in core.made(Forget) if output.key == key()]
    core.hear(Release(key=key()))
    assert [output.key for output in core.made(Forget)] == [key()]


def test_rule_3_log_by_attempt__also_of_a_fenced_one() -> None:
    core = connected()
    core.run()
    core.cut()
    core.open()
    core.welcome(verdict(VerdictKind.FENCED, resume_offset=7))
    assert core.made(OpenLog)[-1].offset == 7
    core.end(how=report(Outcome.ENDED_BADLY, signal=9))
    assert core.said(AttemptExited)[-1].exit.signal == 9
    assert core.phase() is Phase.EXITED


def test_rule_4_prefork__nothing_is_forked_after_the_loss_deadline() -> None:
    """Agent paused past the deadline with the Assignment in the stream: the shim never gets it."""
    core = connected()
    core.accept()
    core.now += 60 * S
    outputs = core.hear(assignment(lost_after_s=60))
    (ended,) = [output for output in outputs if isinstance(output, EndUnstarted)]
    assert (ended.report.outcome, ended.report.stopped_by) == (Outcome.NOT_STARTED, Reason.RUNNER_LOST)
    assert core.made(Prepare) == []


def test_rule_4_prefork__nor_when_it_passes_during_the_preparation() -> None:
    core = connected()
    core.accept()
    core.hear(assignment(lost_after_s=60))
    core.now += 60 * S
    core.feed(Prepared(key=key()))
    assert core.made(Fork) == []
    assert core.made(EndUnstarted)[0].report.stopped_by is Reason.RUNNER_LOST
    core = connected()
    core.accept()
    core.hear(assignment(lost_after_s=3))
    core.run_clock(4)
    assert core.made(EndUnstarted)[0].report.stopped_by is Reason.RUNNER_LOST


def test_rule_4_prefork__the_shim_is_given_the_deadline_to_check_last() -> None:
    core = connected()
    core.offer()
    core.now += 2 * S
    accepted_at = core.now
    core.feed(JournalDone(key=key()))
    core.now += 3 * S
    core.hear(assignment(lost_after_s=60))
    core.feed(Prepared(key=key()))
    assert core.made(Fork)[0].loss_deadline_boot_ns == accepted_at + 60 * S


def test_rule_5_tombstone__dead_or_not_started_is_said_only_after_the_tombstone() -> None:
    """Agent killed between Assignment and fork: the next one calls nothing dead by itself. The scan says it, and what
    never started is told only when its tombstone is written."""
    core = connected()
    core.accept()
    outputs = core.hear(stop())
    assert [type(output) for output in outputs if isinstance(output, EndUnstarted)] == [EndUnstarted]
    assert sent(outputs, AttemptExited) == []
    assert core.phase() is Phase.ENDING
    said = core.end(how=not_started(Reason.NOT_STARTED, "", stopped_by=Reason.USER_CANCEL))
    assert sent(said, AttemptExited)[0].exit.outcome is Outcome.NOT_STARTED


def test_rule_6_missing_wait__what_is_not_held_is_not_spoken_of() -> None:
    """The run directory is unreadable or gone: stop, fence and release of it do nothing, and it is never listed."""
    core = connected()
    for message in (stop(), Fenced(key=key(), current_lease_epoch=2), Release(key=key()), Withdraw(key=key())):
        assert core.hear(message) == ()
    assert core.hear(assignment()) == ()
    assert sent(core.tick(5), Heartbeat)[0].held == ()


def test_rule_7_bootid__every_entry_carries_the_boot_of_its_own_run_directory() -> None:
    """A clone of the host has another boot id in Hello; the entries still say under which boot they were started."""
    core = Core(
        Held(key=key(), phase=Phase.FORKING, boot_id="boot-of-then"),
        identity=Identity(agent_version="1", boot_id="boot-of-now"),
    )
    (hello,) = sent(core.open(), Hello)
    assert (hello.boot_id, hello.inventory[0].boot_id) == ("boot-of-now", "boot-of-then")
    assert core.phase() is Phase.FORKING


@pytest.mark.parametrize("empty", [True, False])
def test_rule_8_confirm__the_record_says_whether_the_tree_is_proven_empty(empty: bool) -> None:
    core = connected()
    core.run()
    core.end(how=report(Outcome.SHIM_DIED, tree_empty=empty))
    assert core.said(AttemptExited)[0].exit.tree_empty is empty


def test_rule_9_hb_inventory__every_heartbeat_lists_all_that_is_held_until_its_release() -> None:
    core = connected()
    core.run("live")
    core.run("over")
    core.end("over")
    (beat,) = sent(core.tick(5), Heartbeat)
    assert {(entry.key.run_id, entry.phase) for entry in beat.held} == {
        ("live", HeldPhase.RUNNING),
        ("over", HeldPhase.EXITED),
    }
    assert [entry.exit is not None for entry in beat.held if entry.key.run_id == "over"] == [True]


def test_rule_9_hb_inventory__a_verdict_on_a_heartbeat_heals_each_lost_message() -> None:
    core = connected()
    core.run()
    (beat,) = sent(core.tick(5), Heartbeat)
    order = verdict(VerdictKind.STOP, stop=stop())
    core.hear(HeartbeatAck(seq=beat.seq, next_interval_s=5, verdicts=(order,)))
    assert core.made(StopTree)[0].reason is Reason.USER_CANCEL
    core.end()
    (beat,) = sent(core.tick(5), Heartbeat)
    core.hear(HeartbeatAck(seq=beat.seq, next_interval_s=5, verdicts=(verdict(VerdictKind.SEND_EXIT),)))
    assert len(core.said(AttemptExited)) == 2
    (beat,) = sent(core.tick(5), Heartbeat)
    stored = verdict(VerdictKind.KEEP, exit_stored=True)
    core.hear(HeartbeatAck(seq=beat.seq, next_interval_s=5, verdicts=(stored,)))
    (beat,) = sent(core.tick(5), Heartbeat)
    assert beat.held[0].exit is None
    core.hear(HeartbeatAck(seq=beat.seq, next_interval_s=5, verdicts=(verdict(VerdictKind.RELEASE),)))
    assert core.made(Forget)[0].key == key()


def test_rule_10_guard__what_an_agent_finds_alive_it_keeps_and_never_forks_again() -> None:
    core = Core(Held(key=key(), phase=Phase.FORKING, lost_after_s=60.0))
    core.connect(verdict(VerdictKind.START, assignment=assignment(), renewed=True))
    core.feed(Started(key=key(), pid=3, at_ns=1))
    core.hear(assignment())
    assert core.phase() is Phase.RUNNING
    assert core.made(Prepare) == []
    assert core.made(Fork) == []


def test_one_alive__an_attempt_waits_while_an_older_one_of_its_run_lives_here() -> None:
    """The second fence: epoch 2 is not forked beside epoch 1; epoch 1 is ended, then the verdict brings it again."""
    core = connected()
    core.accept(epoch=2)
    found = Core(Held(key=key(epoch=1), phase=Phase.RUNNING), Held(key=key(epoch=2), phase=Phase.ACCEPTED))
    again = verdict(VerdictKind.START, epoch=2, assignment=assignment(epoch=2), renewed=True)
    found.connect(again)
    assert found.made(Prepare) == []
    assert found.made(StopTree)[0].key == key(epoch=1)
    found.end(epoch=1)
    (beat,) = sent(found.tick(5), Heartbeat)
    found.hear(HeartbeatAck(seq=beat.seq, next_interval_s=5, verdicts=(again,)))
    assert found.made(Prepare)[0].key == key(epoch=2)


def test_an_offer_is_refused_while_an_older_attempt_of_its_run_lives_here() -> None:
    core = connected()
    core.run(epoch=1)
    core.offer(epoch=2)
    assert core.phase(epoch=2) is None


def test_loss_base__only_a_statement_that_the_server_acked_moves_the_deadline() -> None:
    core = Core()
    core.connect(lease_s=60.0)
    core.run(lost_after_s=60)
    beats = []
    for _ in range(3):
        beats += sent(core.tick(5), Heartbeat)
    sent_at = core.now - 10 * S  # the first of the three
    core.hear(HeartbeatAck(seq=beats[0].seq, next_interval_s=5, verdicts=(verdict(VerdictKind.KEEP, renewed=True),)))
    assert core.made(RenewLoss)[-1].deadline_boot_ns == sent_at + 60 * S
    count = len(core.made(RenewLoss))
    core.hear(HeartbeatAck(seq=beats[1].seq, next_interval_s=5, verdicts=(verdict(VerdictKind.UNKNOWN),)))
    core.hear(HeartbeatAck(seq=99, next_interval_s=5, verdicts=(verdict(VerdictKind.KEEP, renewed=True),)))
    core.hear(HeartbeatAck(seq=beats[0].seq, next_interval_s=5, verdicts=(verdict(VerdictKind.KEEP, renewed=True),)))
    assert len(core.made(RenewLoss)) == count, "neither UNKNOWN, nor an unknown seq, nor a repeat renews"


def test_loss_base__an_assignment_counts_from_what_caused_it_not_from_a_later_statement() -> None:
    """The server's clock began with the accept; a heartbeat after it may have been lost."""
    core = connected()
    core.accept()
    accepted_at = core.now
    core.tick(5)
    core.hear(assignment(lost_after_s=60))
    core.feed(Prepared(key=key()))
    assert core.made(Fork)[0].loss_deadline_boot_ns == accepted_at + 60 * S


def test_loss_base__after_a_reconnect_the_hello_is_the_base() -> None:
    core = connected()
    core.accept()
    core.cut()
    core.now += 30 * S
    core.connect(verdict(VerdictKind.START, assignment=assignment(lost_after_s=60), renewed=True))
    core.feed(Prepared(key=key()))
    assert core.made(Fork)[0].loss_deadline_boot_ns == core.now + 60 * S


def test_loss_base__a_task_that_never_gives_up_has_no_deadline() -> None:
    core = connected()
    core.accept()
    core.hear(assignment(lost_after_s=None))
    core.feed(Prepared(key=key()))
    assert core.made(Fork)[0].loss_deadline_boot_ns is None


def test_nothing_is_acked_of_a_log_before_welcome() -> None:
    core = Core()
    core.open()
    core.feed(Exited(key=key(), report=report()))
    assert core.made(AckLog) == []
