"""The agent's settings: flags win over BANKSMAN_RUNNER_* variables, those over the TOML file, that over defaults."""

from __future__ import annotations

import argparse
import re
import socket
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

ENV_PREFIX = "BANKSMAN_RUNNER_"
MAX_SLOTS = 1_024
MAX_LABELS = 32
_LABEL_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_LEVELS = ("debug", "info", "warning", "error")
_STYLES = ("auto", "json", "text")
DEFAULT_SERVER = "http://127.0.0.1:7070"
DEFAULT_MIN_DISK_FREE_BYTES = 64 << 20


class BadConfig(ValueError):
    """Every wrong setting, one sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one agent needs to know. `join_token_file` is "-" for standard input."""

    state_dir: Path
    server: str = DEFAULT_SERVER
    name: str = ""
    slots: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)
    join_token_file: str = ""
    insecure: bool = False
    replace: bool = False
    handover: bool = False
    use_cgroups: bool = True
    min_disk_free_bytes: int = DEFAULT_MIN_DISK_FREE_BYTES
    log_level: str = "info"
    log_style: str = "auto"


_KEYS = tuple(item.name for item in fields(Settings))


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """$XDG_STATE_HOME/banksman/runner, or ~/.local/state/banksman/runner."""
    base = environ.get("XDG_STATE_HOME", "")
    root = Path(base) if base.startswith("/") else Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    return root / "banksman" / "runner"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `run` and `check`. A flag that is not given is absent from the namespace."""
    add = parser.add_argument
    add("--config", metavar="FILE", help="TOML file with the settings below (state_dir, server, slots, labels, …)")
    add("--state-dir", metavar="DIR", help="where run directories, workspaces and the credential live")
    add("--server", metavar="URL", help="http://host:port or https://host:port of the control plane")
    tokens = parser.add_mutually_exclusive_group()
    tokens.add_argument("--join-token-file", metavar="FILE", help="join token for the first start; - is standard input")
    tokens.add_argument("--join-token-stdin", action="store_true", help="read the join token from standard input")
    add("--name", metavar="NAME", help="name of this runner (default: the host's name)")
    add("--slots", metavar="N", help="how many slots attempts may take at once (default 1)")
    add("--label", metavar="K=V", action="append", dest="labels", help="a label; may be given several times")
    add("--insecure", action="store_true", default=None, help="allow plaintext to another host")
    add("--replace", action="store_true", default=None, help="take over the name of an enrolled runner")
    add(
        "--handover",
        action="store_true",
        default=None,
        help="take the place of the agent that runs here",
    )
    add("--no-cgroups", action="store_false", default=None, dest="use_cgroups", help="never use cgroups")
    add("--min-disk-free-bytes", metavar="N", help="refuse offers with less free disk space")
    add("--log-level", choices=_LEVELS, help="least level of the agent's own log")
    add("--log-style", choices=_STYLES, help="json, text, or auto (text on a terminal)")


def load(flags: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """Put the settings together. Raises BadConfig with every problem that was found."""
    problems: list[str] = []
    given = vars(flags)
    config = given.get("config") or environ.get(f"{ENV_PREFIX}CONFIG", "")
    values: dict[str, object] = _from_file(Path(config), problems) if config else {}
    values |= _from_environment(environ, problems)
    values |= {key: value for key, value in given.items() if key in _KEYS and value is not None}
    if given.get("join_token_stdin"):
        values["join_token_file"] = "-"
    settings = _settings(values, environ, problems)
    if problems or settings is None:
        raise BadConfig(problems)
    return settings


def read_join_token(settings: Settings, stdin_text: str | None = None) -> str:
    """The join token, or "" if none was given. Raises BadConfig when its file cannot be read."""
    if not settings.join_token_file:
        return ""
    if settings.join_token_file == "-":
        return (stdin_text or "").strip()
    try:
        return Path(settings.join_token_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig([f"--join-token-file {settings.join_token_file} cannot be read: {error}"]) from None


def _from_file(path: Path, problems: list[str]) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        problems.append(f"--config {path} cannot be read: {error.strerror}")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"--config {path} is not TOML: {error}")
        return {}
    unknown = sorted(set(values) - set(_KEYS))
    problems.extend(f"{path}: there is no setting {key!r}" for key in unknown)
    return {key: value for key, value in values.items() if key in _KEYS}


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, text in environ.items():
        key = name.removeprefix(ENV_PREFIX).lower()
        if not name.startswith(ENV_PREFIX) or key == "config":
            continue
        if key not in _KEYS:
            problems.append(f"{name}: there is no such setting")
        elif key == "labels":
            values[key] = [item for item in text.split(",") if item]
        else:
            values[key] = text
    return values


def _settings(values: Mapping[str, object], environ: Mapping[str, str], problems: list[str]) -> Settings | None:
    state_dir = Path(str(values.get("state_dir") or default_state_dir(environ))).expanduser()
    name = str(values.get("name") or socket.gethostname())
    if not 1 <= len(name) <= 255 or not name.isprintable() or "/" in name:
        problems.append(f"--name {name!r} is not 1 to 255 printable characters without a slash")
    settings = Settings(
        state_dir=state_dir.absolute(),
        server=str(values.get("server") or DEFAULT_SERVER),
        name=name,
        slots=_number(values, "slots", 1, 1, MAX_SLOTS, problems),
        labels=_labels(values.get("labels"), problems),
        join_token_file=str(values.get("join_token_file") or ""),
        insecure=_flag(values, "insecure", False, problems),
        replace=_flag(values, "replace", False, problems),
        handover=_flag(values, "handover", False, problems),
        use_cgroups=_flag(values, "use_cgroups", True, problems),
        min_disk_free_bytes=_number(values, "min_disk_free_bytes", DEFAULT_MIN_DISK_FREE_BYTES, 0, 1 << 60, problems),
        log_level=_choice(values, "log_level", "info", _LEVELS, problems),
        log_style=_choice(values, "log_style", "auto", _STYLES, problems),
    )
    return None if problems else settings


def _number(values: Mapping[str, object], key: str, default: int, least: int, most: int, problems: list[str]) -> int:
    value = values.get(key, default)
    try:
        number = int(str(value))
    except ValueError:
        problems.append(f"--{key.replace('_', '-')} {value!r} is not a whole number")
        return default
    if not least <= number <= most:
        problems.append(f"--{key.replace('_', '-')} {number} is not between {least} and {most}")
    return number


def _flag(values: Mapping[str, object], key: str, default: bool, problems: list[str]) -> bool:
    value = values.get(key, default)
    if isinstance(value, bool):
        return value
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": default}
    answer = known.get(str(value).lower())
    if answer is None:
        problems.append(f"{key} {value!r} is neither true nor false")
        return default
    return answer


def _choice(values: Mapping[str, object], key: str, default: str, known: Sequence[str], problems: list[str]) -> str:
    value = str(values.get(key, default))
    if value not in known:
        problems.append(f"--{key.replace('_', '-')} {value!r} is none of {', '.join(known)}")
    return value


def _labels(value: object, problems: list[str]) -> dict[str, str]:
    if value is None:
        return {}
    pairs: list[tuple[str, str]] = []
    if isinstance(value, Mapping):
        pairs = [(str(key), str(text)) for key, text in value.items()]
    elif isinstance(value, list):
        for item in value:
            key, equals, text = str(item).partition("=")
            if not equals:
                problems.append(f"--label {item!r} is not KEY=VALUE")
            else:
                pairs.append((key, text))
    else:
        problems.append("labels is neither a table nor a list of KEY=VALUE")
    for key, text in pairs:
        if _LABEL_KEY.fullmatch(key) is None or _LABEL_VALUE.fullmatch(text) is None:
            problems.append(f"--label {key}={text} has characters that a label may not have")
    if len(pairs) > MAX_LABELS:
        problems.append(f"{len(pairs)} labels are given, {MAX_LABELS} are allowed")
    return dict(pairs)
