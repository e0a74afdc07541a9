"""A verb behind other verbs in their transaction: what follows from them needs no commit of its own."""

from __future__ import annotations

from enum import Flag, auto
from typing import Any, Protocol

from sqlalchemy import Connection


class Stir(Flag):
    """What a verb may have brought about."""

    NOTHING = 0
    # A run waits that did not before.
    QUEUED = auto()
    # A runner has room that it had not before.
    SLOT = auto()


class Follower(Protocol):
    """Runs once behind all verbs of a transaction that stir something; a refusal of it undoes only its own changes."""

    def follow(self, connection: Connection, stirs: Stir) -> Any:
        """In the writer's thread. As every verb it may run more than once before it counts."""

    def followed(self, stirs: Stir, result: Any, error: BaseException | None) -> None:
        """On the loop, behind what those verbs say after the commit: committed with them, or refused with an error."""
