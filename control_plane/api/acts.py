"""What the audit trail learns of a call at the gate: who calls from where, what it asks for, and how it is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from control_plane.auth import access
from control_plane.domain.errors import BanksmanError, NotFound, PermissionDenied, Unauthenticated
from control_plane.domain.principal import Caller, PrincipalKind
from control_plane.lifecycle.audit import Act, clean
from control_plane.lifecycle.denials import Denials

# Fields of requests that name a thing, or hold one with an id and a name.
KINDS: Final = frozenset(
    {"project", "task", "run", "schedule", "runner", "principal", "template", "artifact", "report", "delivery"}
)
# Their names are easily taken for their secrets: what is no id is not repeated.
TOKENS: Final = frozenset({"token", "join_token"})
SECRETS: Final = "banksman.v1.SecretService/"
_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PREFIX: Final = "/banksman.v1."


def act_of(method: str, peer: str, request: object) -> Act:
    """A call whose caller is not known yet: what is written before it is, is nobody's deed."""
    is_open = access.is_open(method)
    act = Act(method=method.removeprefix(_PREFIX).removeprefix("/"), peer=peer, entered=is_open)
    if isinstance(request, Message) and not is_open:
        fields = request.DESCRIPTOR.fields_by_name
        act.asked = tuple(clean(each) for each in _asked(request, is_secret=method.startswith(f"/{SECRETS}")))
        act.request_id = getattr(request, "request_id", "") if "request_id" in fields else ""
    return act


def admit(act: Act, caller: Caller) -> None:
    """Now it is known who calls."""
    who = caller.principal
    act.principal_id, act.principal, act.admin = who.id, who.name, who.admin
    act.entered = who.kind is not PrincipalKind.RUNNER


def refused(denials: Denials, act: Act, error: BanksmanError) -> None:
    """Enter what was denied. To who is no admin, a thing of others is not there: that is a denial, too."""
    if error.principal is not None:
        act.principal_id, act.principal = error.principal
    if isinstance(error, Unauthenticated | PermissionDenied):
        if act.principal_id:
            denials.known(act, error.code.value)
        else:
            denials.unknown(act.peer, error.code.value)
    elif isinstance(error, NotFound) and act.principal_id and not act.admin:
        denials.known(act, error.code.value)


def _asked(request: Message, *, is_secret: bool) -> Iterator[str]:
    for field, value in request.ListFields():
        if field.is_repeated:
            continue
        if field.name in TOKENS and isinstance(value, str):
            yield f"{field.name}/{value if _ID.fullmatch(value) else '[hidden]'}"
        elif field.name == "name" and is_secret:
            yield f"secret/{value}"
        elif field.name in KINDS:
            text = _name_of(value) if field.type == FieldDescriptor.TYPE_MESSAGE else value
            if isinstance(text, str) and text:
                yield f"{field.name}/{text}"


def _name_of(thing: Message) -> str:
    fields = thing.DESCRIPTOR.fields_by_name
    names = (str(getattr(thing, name)) for name in ("id", "name") if name in fields)
    return next((name for name in names if name), "")
