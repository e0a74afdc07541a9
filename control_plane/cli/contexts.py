"""Stored contexts: which control plane, as whom. One TOML file, readable by its owner alone."""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from control_plane.cli.errors import CliError

NAME = re.compile(r"[A-Za-z0-9._:@-]{1,100}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredContext:
    """One control plane and the token for it."""

    url: str
    token: str = field(default="", repr=False)
    project: str = ""
    insecure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextFile:
    """What config.toml holds."""

    current: str = ""
    contexts: Mapping[str, StoredContext] = field(default_factory=dict)

    def with_context(self, name: str, context: StoredContext, *, use: bool) -> ContextFile:
        if not NAME.fullmatch(name):
            raise CliError(f"{name!r} is not a context name: 1 to 100 of A-Z a-z 0-9 . _ : @ -")
        current = name if use or not self.current else self.current
        return replace(self, current=current, contexts={**self.contexts, name: context})

    def without(self, name: str) -> ContextFile:
        self.get(name)
        rest = {other: context for other, context in self.contexts.items() if other != name}
        return replace(self, current="" if self.current == name else self.current, contexts=rest)

    def get(self, name: str) -> StoredContext:
        """Raises CliError (not found) when no context has this name."""
        if name not in self.contexts:
            raise CliError(f"there is no context {name!r}", exit_code=3, next_command="banksman context list")
        return self.contexts[name]


def config_path(environ: Mapping[str, str]) -> Path:
    """$XDG_CONFIG_HOME/banksman/config.toml, by default under ~/.config."""
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(home(environ), ".config")
    return Path(base) / "banksman" / "config.toml"


def home(environ: Mapping[str, str]) -> str:
    return environ.get("HOME") or os.path.expanduser("~")


def read_contexts(path: Path) -> ContextFile:
    """The stored contexts; none when there is no file. Raises CliError when it cannot be read."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ContextFile()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CliError(f"cannot read {path}", cause=str(error)) from error
    entries = data.get("contexts", {})
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise CliError(f"cannot read {path}", cause="[contexts] must hold one table per context")
    return ContextFile(
        current=str(data.get("current", "")),
        contexts={
            name: StoredContext(
                url=str(entry.get("url", "")),
                token=str(entry.get("token", "")),
                project=str(entry.get("project", "")),
                insecure=entry.get("insecure") is True,
            )
            for name, entry in entries.items()
        },
    )


def write_contexts(path: Path, file: ContextFile) -> None:
    """Replace the file in one step; it is 0600 from its first byte on, for it holds tokens."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=".config-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(to_toml(file))
            os.replace(fresh, path)
        except BaseException:
            os.unlink(fresh)
            raise
    except OSError as error:
        raise CliError(f"cannot write {path}", cause=str(error)) from error


def to_toml(file: ContextFile) -> str:
    lines = [f"current = {quote(file.current)}"]
    for name, context in sorted(file.contexts.items()):
        lines += ["", f"[contexts.{quote(name)}]", f"url = {quote(context.url)}", f"token = {quote(context.token)}"]
        lines += [f"project = {quote(context.project)}", f"insecure = {'true' if context.insecure else 'false'}"]
    return "\n".join(lines) + "\n"


def quote(text: str) -> str:
    """A TOML basic string."""
    special = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return (
        '"'
        + "".join(special.get(char) or (char if char.isprintable() else f"\\U{ord(char):08x}") for char in text)
        + '"'
    )
