"""Refused callers in the log: the first of a peer at once, the others counted by the minute, never what they said."""

from structlog.testing import capture_logs

from control_plane.api.turned_away import MOST_PEERS, WINDOW_S, TurnedAway, host_of
from tests.fakes.clock import FakeClock


def test_a_peer_is_told_once_and_counted_once_a_minute():
    clock = FakeClock()
    away = TurnedAway(clock.monotonic_s)
    with capture_logs() as lines:
        for port in range(500):
            away.note(f"ipv4:10.0.0.1:{port}", "TOKEN_INVALID")
        away.note("ipv4:10.0.0.1:9", "NOT_ADMIN")
        away.note("ipv4:10.0.0.2:9", "TOKEN_MISSING")
        away.tell()
    assert [(line["event"], line["peer"]) for line in lines] == [
        ("turned away", "10.0.0.1"),
        ("turned away", "10.0.0.2"),
    ]
    with capture_logs() as lines:
        clock.advance(WINDOW_S)
        away.tell()
        away.tell()
    (line,) = lines
    assert (line["peer"], line["times"], line["codes"]) == ("10.0.0.1", 500, "NOT_ADMIN, TOKEN_INVALID")
    assert {line["log_level"]} == {"warning"}


def test_many_peers_are_counted_together():
    clock = FakeClock()
    away = TurnedAway(clock.monotonic_s)
    with capture_logs() as lines:
        for number in range(10 * MOST_PEERS):
            away.note(f"ipv6:[2001:db8::{number:x}]:1", "TOKEN_INVALID")
        clock.advance(WINDOW_S)
        away.tell()
    assert len(lines) == MOST_PEERS + 2
    assert (lines[-1]["peer"], lines[-1]["times"]) == ("others", 9 * MOST_PEERS - 1)


def test_a_peer_is_a_host():
    assert host_of("ipv4:127.0.0.1:80") == "127.0.0.1"
    assert host_of("ipv6:[::1]:80") == "[::1]"
    assert host_of("ipv6:%5B::1%5D:80") == "[::1]"
    assert host_of("unix:") == "unix:"
