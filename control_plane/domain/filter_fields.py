"""By which fields each list can be filtered. The documentation's tables are made from here."""

from collections.abc import Mapping
from typing import Final

from control_plane.domain.filters import Field, Kind
from control_plane.domain.reason import Reason
from control_plane.domain.run import RunState, TriggerType

RUN_FIELDS: Final[Mapping[str, Field]] = {
    "state": Field(kind=Kind.WORD, words=tuple(RunState)),
    "task": Field(kind=Kind.NAMED),
    "template": Field(kind=Kind.NAMED),
    "tag": Field(kind=Kind.SET),
    "label": Field(kind=Kind.MAP),
    "runner": Field(kind=Kind.NAMED),
    "creator": Field(kind=Kind.NAMED),
    "trigger": Field(kind=Kind.WORD, words=tuple(TriggerType)),
    "created_at": Field(kind=Kind.TIME),
    "reason": Field(kind=Kind.WORD, words=tuple(Reason)),
}
TASK_FIELDS: Final[Mapping[str, Field]] = {
    "name": Field(kind=Kind.TEXT),
    "tag": Field(kind=Kind.SET),
    "label": Field(kind=Kind.MAP),
    "owner": Field(kind=Kind.NAMED),
    "active": Field(kind=Kind.FLAG),
    "public": Field(kind=Kind.FLAG),
    "template": Field(kind=Kind.NAMED),
    "scheduled": Field(kind=Kind.FLAG),
    "created_at": Field(kind=Kind.TIME),
    "updated_at": Field(kind=Kind.TIME),
    "deleted_at": Field(kind=Kind.TIME),
}
TEMPLATE_FIELDS: Final[Mapping[str, Field]] = {
    "name": Field(kind=Kind.TEXT),
    "tag": Field(kind=Kind.SET),
    "label": Field(kind=Kind.MAP),
    "owner": Field(kind=Kind.NAMED),
    "public": Field(kind=Kind.FLAG),
    "created_at": Field(kind=Kind.TIME),
    "updated_at": Field(kind=Kind.TIME),
}
AUDIT_FIELDS: Final[Mapping[str, Field]] = {
    "principal": Field(kind=Kind.NAMED),
    "method": Field(kind=Kind.TEXT),
    "resource": Field(kind=Kind.SET),
    "peer": Field(kind=Kind.TEXT),
    "request": Field(kind=Kind.TEXT),
    "code": Field(kind=Kind.TEXT),
    "at": Field(kind=Kind.TIME),
}
