"""What an operator says of a runner that is away: its attempts are given up without waiting for their loss clocks."""

from dataclasses import dataclass, replace

from control_plane.domain.attempt import AttemptState
from control_plane.domain.case import Case
from control_plane.domain.ends import Instant, lost
from control_plane.domain.offers import withdraw
from control_plane.domain.protocol import state_fence
from control_plane.domain.reason import Reason
from control_plane.domain.session import Fenced

ON_WORD = "on an operator's word that its host is dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class LossMark:
    """Who says so and why. `host_is_dead`: no process of that host can live any more, so a retry is safe."""

    actor: str = ""
    note: str = ""
    host_is_dead: bool = False


def mark_lost(case: Case, mark: LossMark, at: Instant) -> Case:
    """OFFERED: taken back. STARTING, RUNNING, STOPPING: LOST, tried again only if the host is dead. Else as it is."""
    before = len(case.events)
    if case.live.state is AttemptState.OFFERED:
        case = withdraw(case, Reason.MARKED_LOST, mark.note, at.now)
    elif state_fence(case):
        case = lost(case, Reason.MARKED_LOST, at, proven=mark.host_is_dead, note=mark.note)
        # Nobody hears it while the runner is away; one that is connected ends the tree at once.
        case = case.tell(Fenced(key=case.live.key, current_lease_epoch=case.run.lease_epoch))
    else:
        return case
    said = mark.note or (ON_WORD if mark.host_is_dead else "")
    fresh = (replace(each, actor=each.actor or mark.actor, note=each.note or said) for each in case.events[before:])
    return replace(case, events=(*case.events[:before], *fresh))
