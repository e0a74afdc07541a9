"""Runner credentials: bound to a runner and a key, short-lived, and not to be forged."""

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.auth.credentials import CredentialPress
from control_plane.domain.errors import ErrorCode, Unauthenticated
from control_plane.domain.ids import RunnerId
from control_plane.domain.runner import Runner
from tests.fakes.clock import FakeClock

RUNNER = Runner(
    id=RunnerId("01890000-0000-7000-8000-000000000001"),
    name="host",
    public_key=bytes(range(32)),
    created_at=FakeClock().now(),
)
PRESS = CredentialPress(b"s" * 32, lifetime_s=3600)


def test_a_credential_names_its_runner_its_key_and_its_end():
    clock = FakeClock()
    text, expires_at = PRESS.issue(RUNNER, clock.now())
    claim = PRESS.check(text, clock.now())
    assert (claim.runner_id, claim.expires_at) == (RUNNER.id, expires_at)
    assert claim.is_of(RUNNER)
    assert not claim.is_of(replace(RUNNER, public_key=bytes(32)))
    assert not claim.is_of(replace(RUNNER, credential_generation=2))


def test_it_ends():
    clock = FakeClock()
    text, _ = PRESS.issue(RUNNER, clock.now())
    clock.advance(3599)
    PRESS.check(text, clock.now())
    clock.advance(1)
    with pytest.raises(Unauthenticated) as caught:
        PRESS.check(text, clock.now())
    assert caught.value.code is ErrorCode.CREDENTIAL_EXPIRED


def test_another_instance_does_not_take_it():
    clock = FakeClock()
    text, _ = CredentialPress(b"t" * 32, lifetime_s=3600).issue(RUNNER, clock.now())
    with pytest.raises(Unauthenticated):
        PRESS.check(text, clock.now())


def test_an_altered_payload_is_refused():
    clock = FakeClock()
    text, _ = PRESS.issue(RUNNER, clock.now())
    head, _, signature = text.removeprefix("bnk_cred_").partition(".")
    payload = base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)).replace(b"0001|", b"0002|")
    forged = base64.urlsafe_b64encode(payload).rstrip(b"=").decode()
    with pytest.raises(Unauthenticated):
        PRESS.check(f"bnk_cred_{forged}.{signature}", clock.now())


@given(st.text(max_size=600))
def test_any_text_is_refused_politely(junk):
    for text in (junk, "bnk_cred_" + junk, f"bnk_cred_{junk}.{junk}"):
        with pytest.raises(Unauthenticated):
            PRESS.check(text, FakeClock().now())
