"""What the sender refuses, and where it connects to, with real sockets and a certificate of its own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from control_plane.domain.notification import Outcome
from control_plane.notifications.rules import Rules
from control_plane.notifications.webhooks import Webhooks

LOOPBACK = {"ports_text": "*", "networks_text": "127.0.0.0/8", "channels_text": "", "first_wait_s": 5.0}


class Names:
    """Answers that change with every question, as a name server's may."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self.answers, self.asked = list(answers), 0

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Listener:
    """A server of one fixed answer, which keeps what it was sent."""

    def __init__(self, answer: bytes) -> None:
        self.answer, self.requests, self.port = answer, list[bytes](), 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            writer.write(self.answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            self.requests.append(b"")
        finally:
            writer.close()


@asynccontextmanager
async def listening(answer: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[Listener]:
    made = Listener(answer)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


async def sent(url: str, names: Names, rules: Rules) -> Outcome:
    webhooks = Webhooks(rules, names, "banksman/test")
    try:
        return await webhooks.send(url, b"{}", {"webhook-id": "1"})
    finally:
        await webhooks.close()


def answer(status: str, *more: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", "content-length: 0", *more, "", "")).encode()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://example.com/", "http:// is not allowed"),
        ("ftp://example.com/", "ftp:// is not allowed"),
        ("unix:///run/x.sock", "unix:// is not allowed"),
        ("https://user:secret@example.com/", "a user"),
        ("https://example.com:22/", "port 22 is not allowed"),
    ],
)
async def test_what_is_not_allowed_is_not_even_resolved(url: str, why: str) -> None:
    names = Names(("1.1.1.1",))
    outcome = await sent(url, names, Rules())
    assert not outcome.ok
    assert why in outcome.error
    assert "secret" not in outcome.error
    assert names.asked == 0


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("1.1.1.1", "10.0.0.1"), ("::ffff:169.254.169.254",), ()])
async def test_one_address_that_is_not_allowed_is_enough(addresses: tuple[str, ...]) -> None:
    host = f"[{addresses[0]}]" if ":" in "".join(addresses) else "example.com"
    outcome = await sent(f"https://{host}/", Names(addresses), Rules())
    assert outcome.error == "the host's address is not allowed: see the setting notify_networks"


async def test_the_address_that_was_checked_is_the_one_that_is_called() -> None:
    """A name that leads elsewhere when it is asked again does not matter: it is asked once."""
    rules = Rules.of(http=True, **LOOPBACK)  # type: ignore[arg-type]
    async with listening(answer("204 No Content")) as listener:
        names = Names(("127.0.0.1",), ("169.254.169.254",))
        outcome = await sent(f"http://hooks.example:{listener.port}/a?b=c", names, rules)
        assert (outcome.ok, outcome.status, names.asked) == (True, 204, 1)
        (head,) = listener.requests
        assert head.startswith(b"POST /a?b=c HTTP/1.1\r\n")
        assert f"host: hooks.example:{listener.port}\r\n".encode() in head.lower()


async def test_each_attempt_looks_anew() -> None:
    """A name that was good yesterday may lead inward today."""
    rules = Rules.of(http=True, **LOOPBACK)  # type: ignore[arg-type]
    async with listening(answer("500 Oh")) as listener:
        names, url = Names(("127.0.0.1",), ("169.254.169.254",)), f"http://hooks.example:{listener.port}/"
        assert (await sent(url, names, rules)).status == 500
        assert "address is not allowed" in (await sent(url, names, rules)).error
        assert (len(listener.requests), names.asked) == (1, 2)


async def test_redirects_are_not_followed_and_gone_is_final() -> None:
    rules = Rules.of(http=True, **LOOPBACK)  # type: ignore[arg-type]
    async with listening(answer("302 Found", "location: http://127.0.0.1:1/")) as listener:
        outcome = await sent(f"http://a.example:{listener.port}/", Names(("127.0.0.1",)), rules)
        assert (outcome.ok, outcome.status, outcome.final) == (False, 302, False)
        assert len(listener.requests) == 1
    async with listening(answer("410 Gone")) as listener:
        outcome = await sent(f"http://a.example:{listener.port}/", Names(("127.0.0.1",)), rules)
        assert (outcome.ok, outcome.final) == (False, True)


async def test_an_endless_answer_is_not_read() -> None:
    rules = Rules.of(http=True, **LOOPBACK)  # type: ignore[arg-type]
    endless = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\nxxxx"
    async with listening(endless) as listener:
        outcome = await sent(f"http://a.example:{listener.port}/", Names(("127.0.0.1",)), rules)
        assert outcome.ok


async def test_what_is_no_http_is_a_failure_like_another() -> None:
    rules = Rules.of(http=True, **LOOPBACK)  # type: ignore[arg-type]
    async with listening(b"nonsense\r\n\r\n") as listener:
        outcome = await sent(f"http://a.example:{listener.port}/", Names(("127.0.0.1",)), rules)
        assert outcome.error == "the request failed: RemoteProtocolError"


async def test_a_certificate_is_checked_for_the_host_not_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = _certificate(tmp_path, "hooks.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    rules = Rules.of(http=False, **LOOPBACK)  # type: ignore[arg-type]
    async with listening(answer("200 OK"), tls) as listener:
        good = await sent(f"https://hooks.example:{listener.port}/", Names(("127.0.0.1",)), rules)
        assert good.ok
        bad = await sent(f"https://other.example:{listener.port}/", Names(("127.0.0.1",)), rules)
        assert bad.error == "the request failed: ConnectError"


def _certificate(directory: Path, host: str) -> tuple[Path, Path]:
    """A certificate of its own for one host, good for an hour."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = directory / "host.pem", directory / "host.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, plain))
    return certificate, private
