"""Structured logs: JSON unless a person watches, and never a token or a secret in them."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

# structlog loads rich where it is there, to colour tracebacks: 4.6 MiB that would be kept for nothing.
_WITHOUT_RICH = "rich" not in sys.modules
if _WITHOUT_RICH:
    sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402

if _WITHOUT_RICH:
    del sys.modules["rich"]

_TOKEN = re.compile(r"bnk_[A-Za-z]+_[A-Za-z0-9._-]+")
_HIDDEN_KEYS = frozenset({"token", "secret", "secrets", "credential", "authorization", "password", "value", "env"})
_HIDDEN = "[hidden]"

Logger = structlog.stdlib.BoundLogger


def logger(room: str) -> Logger:
    """The logger of a room, e.g. logger("dispatch").

    It stays lazy: modules make theirs when they are imported, before anything is configured.
    """
    lazy: Logger = structlog.stdlib.get_logger(f"banksman.{room}", room=room)
    return lazy


def begin_call(**words: str) -> None:
    """Forget what the log lines of this task said about an earlier call, and say this instead."""
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**words)


def configure(*, level: str, form: str, stream: TextIO | None = None) -> None:
    """Set up logging of the whole process; libraries' own records take the same way out.

    Args:
        level: debug, info, warning or error; libraries are heard from warning on.
        form: json, console, or auto (console when the stream is a terminal).
        stream: standard error by default.
    """
    out = stream or sys.stderr
    console = form == "console" or (form == "auto" and out.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    last: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(colors=out.isatty()) if console else structlog.processors.JSONRenderer()
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            hide_secrets,
            last,
        ],
    )
    outlet = logging.StreamHandler(out)
    outlet.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [outlet]
    root.setLevel(logging.WARNING)
    logging.getLogger("banksman").setLevel(level.upper())


def hide_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Last station before the renderer: blank out what is named like a secret or shaped like a token."""
    for key, value in event.items():
        if key in _HIDDEN_KEYS:
            event[key] = _HIDDEN
        elif isinstance(value, str):
            event[key] = _TOKEN.sub(_HIDDEN, value)
        elif value is not None and not isinstance(value, int | float | bool):
            event[key] = _TOKEN.sub(_HIDDEN, str(value))
    return event
