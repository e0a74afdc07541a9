"""A plan for messages that come again and again as they are: each is turned once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf.message import Message

from control_plane.api.mapping import Plan

E = TypeVar("E")
M = TypeVar("M", bound=Message)

KEPT = 256
# Larger ones are turned each time, so that what is kept stays small.
SMALL_BYTES = 8 << 10


class Remembering(Plan[E, M]):
    """What it gives may be given to others, too: nobody may change it. Used by all threads at once."""

    def __init__(self, entity: type[E], message: type[M], *, nested: Mapping[Any, Plan[Any, Any]]) -> None:
        super().__init__(entity, message, nested=nested)
        self._entities: OrderedDict[bytes, E] = OrderedDict()
        # By identity, with the entity, so that its address is nobody else's.
        self._messages: OrderedDict[int, tuple[E, M]] = OrderedDict()

    def encode(self, entity: E) -> M:
        known = self._messages.get(id(entity))
        if known is not None and known[0] is entity:
            return known[1]
        message = super().encode(entity)
        if message.ByteSize() <= SMALL_BYTES:
            self._messages[id(entity)] = (entity, message)
            if len(self._messages) > KEPT:
                self._messages.popitem(last=False)
        return message

    def decode(self, message: M) -> E:
        """Raises BadFields, each time."""
        if message.ByteSize() > SMALL_BYTES:
            return super().decode(message)
        data = message.SerializeToString(deterministic=True)
        known = self._entities.get(data)
        if known is None:
            known = self._entities[data] = super().decode(message)
            if len(self._entities) > KEPT:
                self._entities.popitem(last=False)
        return known
