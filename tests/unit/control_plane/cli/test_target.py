"""Where the CLI connects and as whom: flag, environment, context, discovery; and to whom a token never goes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.cli.client import system_roots
from control_plane.cli.contexts import ContextFile, StoredContext, config_path, read_contexts, write_contexts
from control_plane.cli.errors import CliError
from control_plane.cli.target import Wanted, parse_url, resolve

Environ = dict[str, str]


@pytest.fixture
def environ(tmp_path: Path) -> Environ:
    return {"HOME": str(tmp_path)}


def store(environ: Environ, current: str = "work", **contexts: StoredContext) -> None:
    write_contexts(config_path(environ), ContextFile(current=current, contexts=contexts))


def admin(directory: Path, url: str, *, pid: int = 0, mode: int = 0o600) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "admin.json"
    path.write_text(json.dumps({"url": url, "token": f"token-of-{url[-4:]}", "pid": pid}))
    path.chmod(mode)
    return path


def test_each_source_wins_over_the_next(environ: Environ, tmp_path: Path) -> None:
    admin(tmp_path / ".local/state/banksman/server", "http://127.0.0.1:4444")
    assert resolve(Wanted(), environ).url.endswith("4444")
    store(environ, work=StoredContext(url="http://127.0.0.1:3333", token="t3", project="p3"))
    found = resolve(Wanted(), environ)
    assert (found.url[-4:], found.token, found.project) == ("3333", "t3", "p3")
    environ |= {"BANKSMAN_URL": "http://127.0.0.1:2222", "BANKSMAN_TOKEN": "t2", "BANKSMAN_PROJECT": "p2"}
    found = resolve(Wanted(), environ)
    assert (found.url[-4:], found.token, found.project) == ("2222", "t2", "p2")
    found = resolve(Wanted(url="http://127.0.0.1:1111", token="t1", project="p1"), environ)
    assert (found.url[-4:], found.token, found.project) == ("1111", "t1", "p1")


def test_a_named_context_wins_over_the_environment(environ: Environ) -> None:
    store(environ, work=StoredContext(url="http://127.0.0.1:3333", token="t3"))
    environ |= {"BANKSMAN_URL": "http://127.0.0.1:2222", "BANKSMAN_TOKEN": "t2"}
    found = resolve(Wanted(context="work"), environ)
    assert (found.url[-4:], found.token) == ("3333", "t3")


@pytest.mark.parametrize("empty", ["", " \n"])
def test_an_empty_token_is_refused_and_nobody_elses_taken_for_it(environ: Environ, tmp_path: Path, empty: str) -> None:
    admin(tmp_path / ".local/state/banksman/server", "http://127.0.0.1:4444")
    store(environ, current="", work=StoredContext(url="http://127.0.0.1:3333", token="t3"))
    with pytest.raises(CliError, match="--token is empty") as caught:
        resolve(Wanted(token=empty), environ)
    assert caught.value.exit_code == 2
    environ["BANKSMAN_TOKEN"] = empty
    with pytest.raises(CliError, match="BANKSMAN_TOKEN is empty") as caught:
        resolve(Wanted(), environ)
    assert caught.value.exit_code == 2
    assert resolve(Wanted(token="t1"), environ).token == "t1", "what is not read is not judged"
    assert resolve(Wanted(context="work"), environ).token == "t3"


def test_an_unknown_context_is_not_found(environ: Environ) -> None:
    with pytest.raises(CliError) as caught:
        resolve(Wanted(context="nowhere"), environ)
    assert caught.value.exit_code == 3


def test_a_stored_token_goes_only_to_its_own_url(environ: Environ, tmp_path: Path) -> None:
    admin(tmp_path / ".local/state/banksman/server", "http://127.0.0.1:4444")
    store(environ, work=StoredContext(url="http://127.0.0.1:3333", token="t3"))
    assert resolve(Wanted(url="http://127.0.0.1:9999"), environ).token == ""
    assert resolve(Wanted(url="http://127.0.0.1:3333/"), environ).token == "t3"
    assert resolve(Wanted(url="http://127.0.0.1:4444"), environ).token == "token-of-4444"
    environ["BANKSMAN_URL"] = "http://127.0.0.1:9999"
    assert resolve(Wanted(), environ).token == ""


def test_discovery_prefers_a_server_that_lives(environ: Environ, tmp_path: Path) -> None:
    state = tmp_path / ".local/state/banksman"
    admin(state / "server", "http://127.0.0.1:4444", pid=2**22 + 1)
    admin(state / "dev" / "server", "http://127.0.0.1:5555", pid=os.getpid())
    assert resolve(Wanted(), environ).url.endswith("5555")
    environ["BANKSMAN_STATE_DIR"] = str(state / "server")
    assert resolve(Wanted(), environ).url.endswith("4444")
    environ["BANKSMAN_STATE_DIR"] = str(state / "dev")
    assert resolve(Wanted(), environ).url.endswith("5555")


def test_a_token_file_that_others_can_read_is_refused(environ: Environ, tmp_path: Path) -> None:
    path = admin(tmp_path / ".local/state/banksman/server", "http://127.0.0.1:4444", mode=0o644)
    with pytest.raises(CliError) as caught:
        resolve(Wanted(), environ)
    assert caught.value.next_command == f"chmod 600 {path}"


def test_nothing_known_says_how_to_begin(environ: Environ) -> None:
    with pytest.raises(CliError) as caught:
        resolve(Wanted(), environ)
    assert caught.value.exit_code == 5
    assert "banksman dev" in caught.value.next_command


@pytest.mark.parametrize("url", ["http://10.0.0.1:7070", "http://build.example.com", "http://[2001:db8::1]:7070"])
def test_plaintext_to_another_host_needs_to_be_allowed(environ: Environ, url: str) -> None:
    with pytest.raises(CliError, match="in clear"):
        resolve(Wanted(url=url), environ)
    assert not resolve(Wanted(url=url, insecure=True), environ).tls
    assert not resolve(Wanted(url=url), environ | {"BANKSMAN_INSECURE": "1"}).tls
    store(environ, work=StoredContext(url=url, insecure=True))
    assert resolve(Wanted(), environ).url == url
    with pytest.raises(CliError, match="in clear"):
        resolve(Wanted(url="http://10.9.9.9:7070"), environ)


def test_urls() -> None:
    assert parse_url("http://127.0.0.1:7070") == ("127.0.0.1:7070", False)
    assert parse_url("http://localhost") == ("localhost:7070", False)
    assert parse_url("https://banksman.example.com") == ("banksman.example.com:443", True)
    assert parse_url("https://[::1]:8443/") == ("[::1]:8443", True)
    for wrong in ("", "127.0.0.1:7070", "ftp://x", "http://", "http://x:port", "http://x/path", "http://x?a=b"):
        with pytest.raises(CliError):
            parse_url(wrong)


NAMES = st.from_regex(r"[A-Za-z0-9._:@-]{1,20}", fullmatch=True)
TEXTS = st.text(st.characters(blacklist_categories=("Cs",)), max_size=30)


@given(
    st.dictionaries(
        NAMES, st.builds(StoredContext, url=TEXTS, token=TEXTS, project=TEXTS, insecure=st.booleans()), max_size=3
    )
)
def test_what_is_written_can_be_read_again(contexts: dict[str, StoredContext]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "banksman" / "config.toml"
        written = ContextFile(current="a", contexts=contexts)
        write_contexts(path, written)
        assert read_contexts(path) == written
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert [entry.name for entry in path.parent.iterdir()] == ["config.toml"]


def test_a_broken_file_is_named(environ: Environ) -> None:
    path = config_path(environ)
    path.parent.mkdir(parents=True)
    path.write_text("current = [")
    with pytest.raises(CliError, match=r"config\.toml"):
        read_contexts(path)


def test_tokens_do_not_show_in_a_debugger() -> None:
    assert "secret" not in repr(StoredContext(url="u", token="secret")) + repr(Wanted(token="secret"))


def test_the_systems_authorities_are_trusted(tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_bytes(b"-----BEGIN CERTIFICATE-----")
    assert system_roots({"SSL_CERT_FILE": str(roots)}) == roots.read_bytes()
    assert system_roots({"SSL_CERT_FILE": str(tmp_path / "none")}) is None
