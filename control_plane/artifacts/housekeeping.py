"""What keeps stored files from growing for ever: old ones go, as each project wants it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from control_plane.artifacts.intake import Intake
from control_plane.lifecycle import artifacts
from control_plane.storage import reads

# So many parts at most for one project in one sweep: the next one goes on.
PARTS_A_SWEEP = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactHousekeeping:
    """`keep_s`: from when the run settled, where its project says nothing else."""

    intake: Intake
    keep_s: float

    async def remove_old(self) -> int:
        """Bytes first: a crash in between leaves rows that are removed again. Raises BanksmanError, OSError."""
        house, removed = self.intake.house, 0
        for project_id, _, own in await house.database.read(reads.retentions):
            kept_s = self.keep_s if own.artifacts_s is None else own.artifacts_s
            before = house.clock.now() - timedelta(seconds=kept_s)
            for _ in range(PARTS_A_SWEEP):
                gone = await artifacts.old(house, project_id, before)
                if not gone:
                    break
                await self.intake.remove(gone)
                await artifacts.delete(house, gone)
                removed += len(gone)
        return removed
