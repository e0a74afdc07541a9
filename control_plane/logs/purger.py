"""Removes what deleted runs have left: the bytes of their logs first, then their rows. Goes on after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from control_plane.domain.errors import BanksmanError
from control_plane.domain.ids import AttemptKey, RunId
from control_plane.lifecycle import purges
from control_plane.lifecycle.house import House
from control_plane.logs.store import LogStore
from control_plane.telemetry import logger

log = logger("purge")

# A wake-up that was lost, and what could not be removed before, cost this much.
LOOK_AGAIN_S = 60.0
# After a round that failed for no known reason.
AFTER_TROUBLE_S = 5.0
# So many runs that could not be purged are passed over in one round.
MOST_FAILED = 200

# Removes what these runs have outside the database; called again for the same runs after a crash.
Remover = Callable[[Sequence[RunId]], Awaitable[None]]


class Purger:
    """One loop. `removers` take what others keep outside the database, such as artifacts."""

    def __init__(
        self,
        *,
        house: House,
        store: LogStore,
        give_up: Callable[[AttemptKey], Awaitable[None]],
        removers: Sequence[Remover] = (),
    ) -> None:
        self._house, self._store, self._give_up = house, store, give_up
        self._removers = tuple(removers)

    async def run(self) -> None:
        """At the start what an earlier server has left, then whenever something was deleted."""
        with self._house.watch.subscribe(purges.TOPIC) as wakeups:
            while True:
                try:
                    await self.purge()
                except BanksmanError as error:
                    log.warning("deleted runs are purged later", error=str(error))
                except Exception:  # one bad round must not take the control plane down
                    log.exception("a round of purging failed")
                    # Slept through: many deletions are many wake-ups, and would make it spin.
                    await asyncio.sleep(AFTER_TROUBLE_S)
                    continue
                await wakeups.wait(LOOK_AGAIN_S)

    async def purge(self) -> int:
        """Everything that is hidden now; how many runs. Raises BanksmanError."""
        purged, failed = 0, frozenset[RunId]()
        while len(failed) <= MOST_FAILED and (run_ids := await purges.waiting(self._house, failed)):
            kept = await self._remove_logs(run_ids)
            gone = [run_id for run_id in run_ids if run_id not in kept]
            failed |= kept
            emptied = await self._emptied(gone)
            purged += len(emptied)
            failed |= frozenset(gone) - frozenset(emptied)
        return purged

    async def _emptied(self, run_ids: Sequence[RunId]) -> Sequence[RunId]:
        """Those of which nothing is left. One that cannot be emptied keeps none of the others. Raises BanksmanError."""
        if not run_ids or (await self._removed(run_ids) and await self._empty(run_ids)):
            return run_ids
        if len(run_ids) == 1:
            return ()
        # The one that is to blame is found by taking them one by one.
        return [one for each in run_ids for one in await self._emptied([each])]

    async def _empty(self, run_ids: Sequence[RunId]) -> bool:
        try:
            await purges.empty(self._house, run_ids)
        except BanksmanError:
            raise
        except Exception:  # the others go on
            log.exception("rows of deleted runs stay for now", runs=len(run_ids), first=run_ids[0])
            return False
        return True

    async def _remove_logs(self, run_ids: Sequence[RunId]) -> frozenset[RunId]:
        """A log that may still grow is sealed first, so that its runner is told to forget it. Whose bytes stayed."""
        failed: set[RunId] = set()
        for stored in await purges.logs(self._house, run_ids):
            try:
                if not stored.sealed:
                    await self._give_up(stored.key)
                await asyncio.to_thread(self._store.delete, stored.key)
            except (BanksmanError, OSError) as error:
                log.warning("a deleted run's log stays for now", run=stored.key.run_id, error=str(error))
                failed.add(stored.key.run_id)
            except Exception:  # as in `_emptied`: it keeps only its own run
                log.exception("a deleted run's log stays for now", run=stored.key.run_id)
                failed.add(stored.key.run_id)
        return frozenset(failed)

    async def _removed(self, run_ids: Sequence[RunId]) -> bool:
        try:
            for remove in self._removers:
                await remove(run_ids)
        except (BanksmanError, OSError) as error:
            log.warning("something of deleted runs stays for now", error=str(error))
            return False
        except Exception:  # as above
            log.exception("something of deleted runs stays for now")
            return False
        return True
