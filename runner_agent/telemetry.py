"""The agent's own log: one line per event, to stderr; JSON, or for people on a terminal."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

# structlog loads rich where it is there, to colour tracebacks: 4.6 MiB that would be kept for nothing.
_WITHOUT_RICH = "rich" not in sys.modules
if _WITHOUT_RICH:
    sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402
from structlog.typing import FilteringBoundLogger  # noqa: E402

if _WITHOUT_RICH:
    del sys.modules["rich"]

__all__ = ["FilteringBoundLogger", "configure", "logger"]


def configure(*, level: str = "info", style: str = "auto", stream: TextIO | None = None) -> None:
    """Set the log up once. `style` is "json", "text" or "auto" (text on a terminal)."""
    out = stream if stream is not None else sys.stderr
    people = style == "text" or (style == "auto" and out.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=out.isatty()) if people else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )


def logger(room: str) -> FilteringBoundLogger:
    """The log of one room."""
    log: FilteringBoundLogger = structlog.get_logger(room=room)
    return log
