"""One loop that makes reports: once a run's logs and files are in, before it is settled. Goes on after restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from control_plane.domain.errors import BanksmanError
from control_plane.domain.ids import AttemptKey, RunId
from control_plane.domain.report import LOG_HEAD_BYTES, LOG_TAIL_BYTES, LOGS_SHOWN, LogExcerpt, Rendered, RunFacts
from control_plane.domain.task import ReportFormat
from control_plane.lifecycle import reporting
from control_plane.lifecycle.house import House
from control_plane.reports.fonts import of_this_host
from control_plane.telemetry import logger

log = logger("reports")

# A wake-up that was lost costs this much; what could not be read or stored is tried again after the other.
LOOK_AGAIN_S = 60.0
TRY_AGAIN_S = 5.0
# So many runs whose reports could not be stored are passed over.
MOST_FAILED = 200
# A report that takes longer is given up.
LONGEST_S = 60.0

# (attempt, bytes of the head, of the tail) -> the ends of its log; blocks.
ReadLog = Callable[[AttemptKey, int, int], LogExcerpt]


class Reporter:
    """Runs wait for it one after the other; none of its work is done on the event loop's thread."""

    def __init__(self, house: House, read_log: ReadLog, longest_s: float = LONGEST_S, *, fonts_named: str = "") -> None:
        self._house, self._read_log, self._longest_s = house, read_log, longest_s
        self._fonts_named = fonts_named
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="report")
        # Passed over until then, so that not every wake-up tries them again.
        self._failed: set[RunId] = set()
        self._failed_until_s = 0.0

    async def run(self) -> None:
        """At the start what an earlier server has left, then whenever a log was sealed."""
        try:
            with self._house.watch.subscribe(reporting.TOPIC) as wakeups:
                while True:
                    await wakeups.wait(await self._round())
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _round(self) -> float:
        """Everything that is due now; how long to wait if nobody calls."""
        now_s = self._house.clock.monotonic_s()
        if now_s >= self._failed_until_s:
            self._failed, self._failed_until_s = set(), now_s + LOOK_AGAIN_S
        try:
            while len(self._failed) <= MOST_FAILED and (waiting := await self._due()):
                for run_id in waiting:
                    if not await self._made(run_id):
                        self._failed.add(run_id)
        except BanksmanError as error:
            log.warning("reports are made later", error=str(error))
            return TRY_AGAIN_S
        except Exception:  # one bad round must not take the control plane down
            log.exception("a round of reports failed")
            # Slept through: wake-ups come with every sealed log, and would make it spin.
            await asyncio.sleep(TRY_AGAIN_S)
            return 0.0
        return LOOK_AGAIN_S

    async def _due(self) -> tuple[RunId, ...]:
        return await reporting.due(self._house, frozenset(self._failed))

    async def _made(self, run_id: RunId) -> bool:
        """Whether the run is dealt with. One that cannot be keeps nobody else waiting. Raises BanksmanError."""
        try:
            await self._make(run_id)
        except BanksmanError:
            raise
        except Exception:  # the others' reports are still made; this one is tried again
            log.exception("a report could not be made or stored", run=run_id)
            return False
        return True

    async def _make(self, run_id: RunId) -> None:
        facts = await reporting.facts(self._house, run_id)
        if facts is None:
            return
        formats = facts.run.report_formats
        try:
            async with asyncio.timeout(self._longest_s):
                made = await asyncio.get_running_loop().run_in_executor(self._thread, self._rendered, facts, formats)
        except TimeoutError:
            # Its thread is stuck in it: the next report gets another one.
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="report")
            made = _failed(formats, f"it took longer than {self._longest_s:g} s")
        await reporting.made(self._house, facts.run, made)

    def _rendered(self, facts: RunFacts, formats: tuple[ReportFormat, ...]) -> tuple[Rendered, ...]:
        # Template engines are loaded by servers that make reports, and only by them.
        from control_plane.reports.renderer import rendered

        assigned = [each for each in facts.attempts if each.assigned_at is not None][-LOGS_SHOWN:]
        try:
            logs = {each.key: self._read_log(each.key, LOG_HEAD_BYTES, LOG_TAIL_BYTES) for each in assigned}
            # Looked for each time: whoever installs a font need not start the server again.
            fonts = of_this_host(self._fonts_named) if ReportFormat.PDF in formats else ()
            return rendered(facts, logs, formats, fonts)
        except Exception as error:  # whatever it is, the run must not wait for ever
            log.exception("a report could not be made", run=facts.run.id)
            return _failed(formats, f"an internal error ({type(error).__name__})")


def _failed(formats: tuple[ReportFormat, ...], why: str) -> tuple[Rendered, ...]:
    return tuple(Rendered(format=each, error=why) for each in formats)
