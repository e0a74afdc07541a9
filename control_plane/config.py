"""Settings of the control plane: flags over environment over a TOML file over defaults; an unknown key is an error."""

from __future__ import annotations

import dataclasses
import ipaddress
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from control_plane.domain.addresses import networks, ports
from control_plane.domain.project import Retention
from control_plane.domain.timing import Timing

ENVIRONMENT_PREFIX = "BANKSMAN_SERVER_"
SCALARS = {"str": str, "int": int, "float": float, "bool": bool}


class ConfigError(Exception):
    """A setting that cannot be used; the text names the key and where it came from."""


def default_state_dir(environment: Mapping[str, str]) -> str:
    """Where state lives unless told otherwise: $XDG_STATE_HOME/banksman/server."""
    home = environment.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(home, "banksman", "server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings. Durations end in _s, sizes in _bytes."""

    state_dir: str
    # HOST:PORT; port 0 takes a free one and admin.json says which.
    listen: str = "127.0.0.1:7070"
    # Plaintext on an address that other hosts can reach.
    insecure: bool = False
    log_level: str = "info"
    log_format: str = "auto"
    # Allows margins and periods that are too short to be safe.
    testing: bool = False

    heartbeat_shortest_s: float = 5.0
    loss_margin_s: float = 30.0
    loss_margin_ratio: float = 0.002
    hello_timeout_s: float = 10.0
    stop_grace_s: float = 5.0
    credential_lifetime_s: float = 3600.0

    run_keep_s: float = 90 * 86_400.0
    log_keep_s: float = 30 * 86_400.0
    log_keep_bytes: int = 50 << 30
    artifact_keep_s: float = 30 * 86_400.0
    # Of one file, of all files of an attempt, and how many.
    artifact_file_bytes: int = 2 << 30
    artifact_run_bytes: int = 10 << 30
    artifact_files: int = 1_000
    # Below this much free disk no log byte is acknowledged any more.
    disk_reserve_bytes: int = 64 << 20

    # Webhooks: plain http too; ports, or "*"; networks beside public addresses ("10.0.0.0/8, 127.0.0.0/8").
    notify_http: bool = False
    notify_ports: str = "443, 8443"
    notify_networks: str = ""
    # Schemes of other channels; those that are named by default lead to hosts of their own only.
    notify_channels: str = "slack, discord, tgram, pagerduty, opsgenie, pover"
    # Until the second attempt; later waits are multiples of it, for a day.
    notify_first_wait_s: float = 5.0

    # Font files for PDF, with commas between them; empty: those that hosts usually have.
    report_fonts: str = ""

    max_sessions: int = 10_000
    # Calls that watch, follow or wait and are open at a time, of one caller.
    max_streams_each: int = 200
    outbox_bytes: int = 8 << 20

    @property
    def state_path(self) -> Path:
        """The state directory as a path."""
        return Path(self.state_dir)

    @property
    def host_port(self) -> tuple[str, int]:
        """`listen`, taken apart; an IPv6 host has lost its brackets."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    def retention(self) -> Retention:
        """How long things are kept of projects that say nothing else."""
        return Retention(runs_s=self.run_keep_s, logs_s=self.log_keep_s, artifacts_s=self.artifact_keep_s)

    def timing(self) -> Timing:
        """The numbers that the session and its clocks follow."""
        return Timing(
            heartbeat_shortest_s=self.heartbeat_shortest_s,
            loss_margin_s=self.loss_margin_s,
            loss_margin_ratio=self.loss_margin_ratio,
        )


KEYS = {field.name: str(field.type) for field in dataclasses.fields(Settings)}


def load(
    flags: Mapping[str, str | bool | None], environment: Mapping[str, str], config_file: str | None = None
) -> Settings:
    """Put the settings together.

    Args:
        flags: by key; None means not given.
        environment: the process environment; only BANKSMAN_SERVER_* is looked at.
        config_file: a TOML file, else BANKSMAN_SERVER_CONFIG, else none.
    Raises:
        ConfigError: unknown key, wrong type, or a value that makes no sense. All problems are named at once.
    """
    problems: list[str] = []
    values: dict[str, str | int | float | bool] = {"state_dir": default_state_dir(environment)}
    path = config_file or environment.get(ENVIRONMENT_PREFIX + "CONFIG")
    if path:
        for key, value in _read_toml(path).items():
            _take(values, problems, key, value, source=path)
    for name, text in sorted(environment.items()):
        if name.startswith(ENVIRONMENT_PREFIX) and name != ENVIRONMENT_PREFIX + "CONFIG":
            _take(values, problems, name.removeprefix(ENVIRONMENT_PREFIX).lower(), text, source=name)
    for key, flag in flags.items():
        if flag is not None:
            _take(values, problems, key, flag, source=f"--{key.replace('_', '-')}")
    if problems:
        raise ConfigError("; ".join(problems))
    settings = Settings(**values)  # type: ignore[arg-type]
    _check(settings)
    return settings


def _read_toml(path: str) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _take(
    values: dict[str, str | int | float | bool], problems: list[str], key: str, value: object, *, source: str
) -> None:
    """Convert one value to its field's type and store it; what is wrong goes to `problems`."""
    if key not in KEYS:
        problems.append(f"unknown setting {key!r} in {source}")
        return
    wanted = KEYS[key]
    converted = _from_text(wanted, value) if isinstance(value, str) else value
    if wanted == "float" and isinstance(converted, int) and not isinstance(converted, bool):
        converted = float(converted)
    if not isinstance(converted, str | int | float | bool) or type(converted) is not SCALARS[wanted]:
        problems.append(f"{key} in {source} must be a {wanted}, not {value!r}")
        return
    values[key] = converted


def _from_text(wanted: str, text: str) -> object:
    """Read a number or a truth value from text; text that is neither stays text, which then has the wrong type."""
    if wanted == "bool":
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(text.lower(), text)
    if wanted in ("int", "float"):
        try:
            return SCALARS[wanted](text)
        except ValueError:
            return text
    return text


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check(settings: Settings) -> None:
    problems = [
        f"{name} must be a positive number, not {value}"
        for name in KEYS
        if isinstance(value := getattr(settings, name), int | float)
        and not isinstance(value, bool)
        and not (math.isfinite(value) and value > 0)
    ]
    host, _, port = settings.listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        problems.append(f"listen must be HOST:PORT, not {settings.listen!r}")
    elif not settings.insecure and not _is_loopback(host.strip("[]")):
        problems.append(
            f"listen = {settings.listen!r} can be reached by other hosts in plain text; "
            "listen on 127.0.0.1 and use a tunnel, or say --insecure"
        )
    if settings.log_level not in ("debug", "info", "warning", "error"):
        problems.append(f"log_level must be debug, info, warning or error, not {settings.log_level!r}")
    if settings.log_format not in ("auto", "json", "console"):
        problems.append(f"log_format must be auto, json or console, not {settings.log_format!r}")
    if not settings.testing:
        floors = {"loss_margin_s": 30.0, "loss_margin_ratio": 0.002, "heartbeat_shortest_s": 1.0}
        problems += [
            f"{name} below {floor} is not safe; it is accepted only with testing = true"
            for name, floor in floors.items()
            if getattr(settings, name) < floor
        ]
    problems += _notify_problems(settings)
    fonts = [part.strip() for part in settings.report_fonts.split(",") if part.strip()]
    problems += [f"report_fonts: there is no file {font!r}" for font in fonts if not os.path.isfile(font)]
    if problems:
        raise ConfigError("; ".join(problems))


def _notify_problems(settings: Settings) -> list[str]:
    problems = []
    for name, parse in (("notify_ports", ports), ("notify_networks", networks)):
        try:
            parse(getattr(settings, name))
        except ValueError as error:
            problems.append(f"{name} = {getattr(settings, name)!r}: {error}")
    return problems
