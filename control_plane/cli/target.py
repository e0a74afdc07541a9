"""Which control plane a command talks to, and as whom: flags, environment, context, discovery."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from control_plane.cli.contexts import StoredContext, config_path, read_contexts
from control_plane.cli.discovery import discover
from control_plane.cli.errors import CliError
from control_plane.cli.exits import ExitCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the flags said; None where they were silent."""

    url: str | None = None
    token: str | None = field(default=None, repr=False)
    context: str | None = None
    project: str | None = None
    insecure: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to connect. `source` says where the URL came from."""

    url: str
    token: str = field(repr=False)
    address: str
    tls: bool
    project: str
    source: str


def resolve(wanted: Wanted, environ: Mapping[str, str]) -> Target:
    """Flags win over environment, context and discovery.

    A stored or discovered token goes only to the URL that it was stored with. Raises CliError when no control plane is
    known, a token was given that is empty, or the token would travel in clear.
    """
    refuse_empty_token(wanted, environ)
    stored = chosen_context(wanted, environ)
    url, source = wanted.url, "--url"
    if url is None and wanted.context is None and environ.get("BANKSMAN_URL"):
        url, source = environ["BANKSMAN_URL"], "BANKSMAN_URL"
    if url is None and stored is not None:
        url, source = stored.url, "context"
    local = None
    if url is None or (wanted.token is None and not environ.get("BANKSMAN_TOKEN")):
        local = discover(environ)
    if url is None and local is not None:
        url, source = local.url, str(local.path)
    if url is None:
        raise CliError(
            "no control plane is known",
            exit_code=ExitCode.UNAVAILABLE,
            cause="neither --url, BANKSMAN_URL, a context nor a server of this host says where it is",
            next_command="banksman dev, or banksman login --url URL",
        )
    address, tls = parse_url(url)
    if not tls and not is_loopback(address) and not may_be_plain(wanted, environ, stored, url):
        raise CliError(
            f"{url} is plaintext and not on this host, so the token would travel in clear",
            exit_code=ExitCode.USAGE,
            next_command="use https://, an ssh tunnel to a loopback port, or --insecure if the network is trusted",
        )
    token = wanted.token
    if token is None and wanted.context is None:
        token = environ.get("BANKSMAN_TOKEN") or None
    if token is None and stored is not None and same_url(stored.url, url):
        token = stored.token
    if token is None and local is not None and same_url(local.url, url):
        token = local.token
    project = first(wanted.project, environ.get("BANKSMAN_PROJECT"), stored.project if stored else None)
    return Target(url=url, token=token or "", address=address, tls=tls, project=project, source=source)


def refuse_empty_token(wanted: Wanted, environ: Mapping[str, str]) -> None:
    """An empty token is a secret that did not arrive: falling back would call as somebody else, often as the admin."""
    if wanted.token is not None:
        name, token, instead = "--token", wanted.token, "give a token, or leave --token out"
    elif wanted.context is None:
        token = environ.get("BANKSMAN_TOKEN", "-")
        name, instead = "BANKSMAN_TOKEN", "unset BANKSMAN_TOKEN, or put a token into it"
    else:
        return
    if not token.strip():
        raise CliError(
            f"{name} is empty",
            exit_code=ExitCode.USAGE,
            reason="TOKEN_EMPTY",
            cause="no stored token is used in its place, as that would be somebody else's",
            next_command=instead,
        )


def first(*values: str | None) -> str:
    return next((value for value in values if value), "")


def chosen_context(wanted: Wanted, environ: Mapping[str, str]) -> StoredContext | None:
    """The context that was named, else the current one. A named one must exist."""
    file = read_contexts(config_path(environ))
    name = wanted.context or environ.get("BANKSMAN_CONTEXT")
    if name:
        return file.get(name)
    return file.contexts.get(file.current)


def may_be_plain(wanted: Wanted, environ: Mapping[str, str], stored: StoredContext | None, url: str) -> bool:
    if wanted.insecure is not None:
        return wanted.insecure
    if environ.get("BANKSMAN_INSECURE", "").lower() in ("1", "true", "yes"):
        return True
    return stored is not None and stored.insecure and same_url(stored.url, url)


def same_url(one: str, other: str) -> bool:
    try:
        return parse_url(one) == parse_url(other)
    except CliError:
        return False


def parse_url(url: str) -> tuple[str, bool]:
    """(host:port, TLS?) of http://host:port or https://host[:port]; anything else is a usage error."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise CliError(f"{url!r} is not a URL", cause=str(error)) from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise CliError(f"{url!r} is not a control plane's URL; write http://host:port or https://host")
    if parts.username is not None or parts.query or parts.fragment:
        raise CliError("a control plane's URL holds only scheme, host and port; give the token by --token-stdin")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port or (443 if parts.scheme == 'https' else 7070)}", parts.scheme == "https"


def is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
