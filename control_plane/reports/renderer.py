"""Every format of a report, one after the other. What goes wrong with one does not concern the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from control_plane.domain.ids import AttemptKey
from control_plane.domain.report import LogExcerpt, Rendered, RunFacts
from control_plane.domain.task import ReportFormat
from control_plane.reports.content import Content, content
from control_plane.reports.documents import as_html, as_json, as_markdown
from control_plane.reports.paper import NoPaper, as_pdf
from control_plane.telemetry import logger

log = logger("reports")


def rendered(
    facts: RunFacts,
    logs: Mapping[AttemptKey, LogExcerpt],
    formats: Sequence[ReportFormat],
    fonts: Sequence[Path] = (),
) -> tuple[Rendered, ...]:
    """`fonts` are those of PDF. Blocks: call it in a thread."""
    told = content(facts, logs)
    forms: dict[ReportFormat, Callable[[Content], bytes]] = {
        ReportFormat.JSON: as_json,
        ReportFormat.MARKDOWN: as_markdown,
        ReportFormat.HTML: as_html,
        ReportFormat.PDF: partial(as_pdf, fonts=fonts),
    }
    return tuple(_one(facts, told, each, forms[each]) for each in formats)


def _one(facts: RunFacts, told: Content, form: ReportFormat, make: Callable[[Content], bytes]) -> Rendered:
    try:
        return Rendered(format=form, body=make(told))
    except NoPaper as error:
        return Rendered(format=form, error=str(error))
    except Exception as error:
        # A mistake in a template, or in a library, must not keep a run from being settled for ever.
        log.exception("a report could not be made", run=facts.run.id, form=str(form))
        return Rendered(format=form, error=f"an internal error ({type(error).__name__}); the server's log says more")
