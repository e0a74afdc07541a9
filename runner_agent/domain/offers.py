"""Whether an offer is taken."""

from __future__ import annotations

import re

from runner_agent.domain.attempt_table import Cue
from runner_agent.domain.attempts import apply
from runner_agent.domain.held import Held, Phase
from runner_agent.domain.messages import Offer, OfferReply, RejectReason
from runner_agent.domain.outputs import JournalAccept
from runner_agent.domain.state import Turn, older_attempt_lives

MAX_WAITING_ATTEMPTS = 1_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}")


def consider(turn: Turn, offer: Offer) -> None:
    """Journal the acceptance first, or refuse with the reason. A repeat for an accepted attempt is accepted again."""
    if offer.key in turn.held:
        apply(turn, offer.key, Cue.OFFERED)
        return
    refusal = _refusal(turn, offer)
    if refusal is not None:
        reason, note = refusal
        turn.tell(OfferReply(key=offer.key, reject=reason, note=note))
        return
    turn.put(Held(key=offer.key, phase=Phase.ACCEPTING, slots=offer.slots, boot_id=turn.state.identity.boot_id))
    turn.emit(JournalAccept(key=offer.key, slots=offer.slots))


def _refusal(turn: Turn, offer: Offer) -> tuple[RejectReason, str] | None:
    state = turn.state
    if not _NAME.fullmatch(offer.key.run_id):
        return RejectReason.UNSUPPORTED, "the run's id cannot name a directory"
    if offer.slots < 1 or offer.key.lease_epoch <= state.forgotten.get(offer.key.run_id, 0):
        return RejectReason.UNSUPPORTED, "this attempt is already over here"
    if state.draining:
        return RejectReason.DRAINING, "the runner takes no more"
    if offer.slots > state.identity.slots:
        return RejectReason.UNSUPPORTED, f"{offer.slots} slots are wanted, the runner has {state.identity.slots}"
    if (older := older_attempt_lives(turn.held, offer.key)) is not None:
        return RejectReason.NO_SLOT, f"attempt {older.lease_epoch} of this run still lives here"
    if state.disk_free_bytes < state.min_disk_free_bytes:
        return RejectReason.LOW_DISK, f"{state.disk_free_bytes} bytes are free, {state.min_disk_free_bytes} are kept"
    if len(turn.held) >= MAX_WAITING_ATTEMPTS + state.identity.slots:
        return RejectReason.LOW_DISK, f"{len(turn.held)} attempts wait here for their release"
    if offer.slots > state.free_slots:
        return RejectReason.NO_SLOT, f"{state.free_slots} of {state.identity.slots} slots are free"
    return None
