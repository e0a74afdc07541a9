"""Signatures, against the convention's own library."""

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook

from control_plane.notifications.signing import headers, key_of

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def test_the_library_makes_the_same_signature() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    body = '{"type":"run.finished","text":"é"}'
    found = headers("0198c2de", int(at.timestamp()), body.encode(), SECRET.encode())
    assert found["webhook-signature"] == Webhook(SECRET).sign("0198c2de", at, body)
    assert found["webhook-id"] == "0198c2de"
    assert found["webhook-timestamp"] == str(int(at.timestamp()))


def test_a_secret_without_the_prefix_is_its_bytes() -> None:
    assert key_of(b"a plain secret") == b"a plain secret"
    assert key_of(SECRET.encode() + b"\n") == KEY


def test_a_secret_that_is_not_base64_is_refused_without_being_quoted() -> None:
    with pytest.raises(ValueError, match="base64") as caught:
        key_of(b"whsec_not base64 at all")
    assert "at all" not in str(caught.value)


def test_without_a_secret_there_is_no_signature() -> None:
    assert "webhook-signature" not in headers("x", 1, b"{}", None)
