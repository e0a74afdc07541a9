"""Logs: structured, and blind to secrets."""

import io
import json

import pytest

from control_plane import telemetry
from control_plane.auth.tokens import TokenKind, mint

TOKEN = mint(TokenKind.USER, bytes(range(32)))


@pytest.fixture
def lines():
    stream = io.StringIO()
    telemetry.configure(level="info", form="json", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    telemetry.begin_call()


def test_a_line_is_one_json_object(lines):
    telemetry.logger("api").info("hello\nworld", run="r1")
    (line,) = lines()
    assert (line["event"], line["run"], line["room"], line["level"]) == ("hello\nworld", "r1", "api", "info")


def test_no_token_reaches_a_line(lines):
    log = telemetry.logger("api")
    log.info("got " + TOKEN, text=TOKEN, nested={"deep": [TOKEN]}, blob=TOKEN.encode(), token="x", secret="swordfish")
    try:
        raise ValueError(f"bad {TOKEN}")
    except ValueError:
        log.exception("failed")
    text = json.dumps(lines())
    assert TOKEN not in text
    assert TOKEN[9:30] not in text
    assert "swordfish" not in text


def test_words_of_a_call_are_on_its_lines_and_forgotten_with_it(lines):
    telemetry.begin_call(method="/x/Y")
    telemetry.logger("api").info("one")
    telemetry.begin_call()
    telemetry.logger("api").info("two")
    one, two = lines()
    assert one["method"] == "/x/Y"
    assert "method" not in two


def test_a_logger_that_was_made_before_the_configuration_follows_it():
    early = telemetry.logger("early")
    stream = io.StringIO()
    telemetry.configure(level="warning", form="json", stream=stream)
    early.info("quiet")
    early.warning("loud", token="x")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_lines_below_the_level_are_left_out(lines):
    telemetry.logger("api").debug("quiet")
    assert lines() == []
