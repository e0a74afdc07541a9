"""Proofs of a key: the exact text, and each only once."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from control_plane.auth.signatures import ReplayWindow, enrolment_text, is_signed, renewal_text

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = KEY.public_key().public_bytes_raw()


def test_the_signed_texts_are_those_of_the_contract():
    assert enrolment_text("tok", "host") == b"banksman-enroll\ntok\nhost"
    assert renewal_text("r1", 12, b"\x00\xff") == b"banksman-renew\nr1\n12\n00ff"


def test_a_signature_counts_for_its_key_and_its_text_only():
    text = enrolment_text("tok", "host")
    signature = KEY.sign(text)
    assert is_signed(PUBLIC, signature, text)
    assert not is_signed(PUBLIC, signature, enrolment_text("tok", "other"))
    assert not is_signed(PUBLIC, signature[:-1], text)
    assert not is_signed(PUBLIC, b"", text)
    assert not is_signed(b"short", signature, text)
    other = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32).public_key().public_bytes_raw()
    assert not is_signed(other, signature, text)


def test_signing_time_must_be_near():
    window = ReplayWindow(window_s=300)
    assert window.is_fresh(1000, 1300.0)
    assert window.is_fresh(1300, 1000.0)
    assert not window.is_fresh(1000, 1301.0)
    assert not window.is_fresh(1301, 1000.0)


def test_a_nonce_is_spent_once_and_remembered_while_it_could_count():
    window = ReplayWindow(window_s=300)
    assert window.use("r1", b"n", 1000.0)
    assert not window.use("r1", b"n", 1000.0)
    assert window.use("r2", b"n", 1000.0)
    assert not window.use("r1", b"n", 1600.0)
    assert window.use("r1", b"n", 1601.0)


def test_memory_is_bounded_and_full_means_no():
    window = ReplayWindow(window_s=300, most=2)
    assert window.use("r1", b"1", 0.0)
    assert window.use("r1", b"2", 0.0)
    assert not window.use("r1", b"3", 0.0)
    assert window.use("r1", b"3", 601.0)
