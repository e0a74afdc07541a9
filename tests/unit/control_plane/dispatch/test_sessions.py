"""Live sessions: the newest wins, a slow one is closed, a silent one ends."""

from control_plane.dispatch.sessions import OVERFLOW, REVOKED, SILENT, SUPERSEDED, LiveSession, Sessions
from control_plane.domain.ids import AttemptKey, Holder, RunId, RunnerId
from control_plane.domain.session import Drain, LogAck

HOST = RunnerId("host")


class Line:
    """The writing end of a stream, as a session sees it."""

    def __init__(self, room: int = 100) -> None:
        self.room = room
        self.sent: list[tuple[object, bool]] = []
        self.goodbye: str | None = None

    def put(self, message: object, log_lane: bool) -> bool:
        if len(self.sent) >= self.room:
            return False
        self.sent.append((message, log_lane))
        return True

    def end(self, goodbye) -> None:
        self.goodbye = goodbye.reason


def session(epoch: int, *, runner: RunnerId = HOST, welcomed: bool = True, room: int = 100):
    line = Line(room)
    made = LiveSession(Holder(runner_id=runner, state_directory_id="d"), put=line.put, end=line.end)
    made.epoch, made.welcomed = epoch, welcomed
    return made, line


def test_the_newest_session_wins_whatever_the_order():
    sessions = Sessions(most=10)
    (old, old_line), (new, new_line) = session(1), session(2)
    sessions.open(old)
    sessions.open(new)
    assert (old_line.goodbye, new_line.goodbye) == (SUPERSEDED, None)
    late, late_line = session(1)
    sessions.open(late)
    assert late_line.goodbye == SUPERSEDED
    assert sessions.get(HOST) is new
    assert not sessions.close(old)
    assert sessions.close(new)
    assert len(sessions) == 0


def test_nothing_is_posted_before_the_welcome_or_after_the_goodbye():
    sessions = Sessions(most=10)
    made, line = session(1, welcomed=False)
    sessions.open(made)
    sessions.post(HOST, Drain())
    assert line.sent == []
    made.welcomed = True
    sessions.post(HOST, Drain())
    sessions.end(HOST, REVOKED)
    sessions.post(HOST, Drain())
    sessions.post(RunnerId("nobody"), Drain())
    assert (line.sent, line.goodbye) == ([(Drain(), False)], REVOKED)
    assert sessions.ready() == ()


def test_a_session_whose_outbox_is_full_is_closed_not_grown():
    made, line = session(1, room=1)
    made.send(Drain())
    made.send(Drain())
    made.send(Drain())
    assert (len(line.sent), line.goodbye) == (1, OVERFLOW)


def test_log_acks_take_the_log_lane():
    made, line = session(1)
    made.send(LogAck(key=AttemptKey(run_id=RunId("r"), lease_epoch=1), committed_offset=0, window_bytes=0))
    assert line.sent[0][1]


def test_a_silent_session_ends_when_its_lease_does():
    sessions = Sessions(most=10)
    (quiet, quiet_line), (loud, loud_line) = session(1), session(1, runner=RunnerId("loud"))
    sessions.open(quiet)
    sessions.open(loud)
    quiet.heard_s, loud.heard_s = 100.0, 110.0
    sessions.end_silent(115.0, 15.0)
    assert (quiet_line.goodbye, loud_line.goodbye) == (None, None)
    sessions.end_silent(115.1, 15.0)
    assert (quiet_line.goodbye, loud_line.goodbye) == (SILENT, None)


def test_after_our_own_pause_everybody_gets_a_whole_lease():
    sessions = Sessions(most=10)
    made, line = session(1)
    sessions.open(made)
    sessions.heard_all(500.0)
    sessions.end_silent(514.0, 15.0)
    assert line.goodbye is None


def test_there_is_room_for_so_many_and_for_each_runners_newer_session():
    sessions = Sessions(most=1)
    sessions.open(session(1)[0])
    assert sessions.has_room(HOST)
    assert not sessions.has_room(RunnerId("other"))


def test_owed_ends_are_kept_until_they_are_taken():
    sessions = Sessions(most=1)
    sessions.owe(HOST, 3)
    sessions.owe(HOST, 2)
    assert sessions.take_owed() == {HOST: 3}
    assert sessions.take_owed() == {}
