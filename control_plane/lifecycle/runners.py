"""Verbs on runners: sessions that come and go, drain, resume, revoke."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from control_plane.domain import limits
from control_plane.domain.case import Case
from control_plane.domain.errors import ErrorCode, FieldViolation, NotFound, PermissionDenied
from control_plane.domain.ids import RunnerId
from control_plane.domain.names import check_labels
from control_plane.domain.runner import Runner
from control_plane.domain.session import Hello
from control_plane.lifecycle import attempts
from control_plane.lifecycle.enrolment import Enrolment, enrol, not_granted, renew
from control_plane.lifecycle.house import House
from control_plane.lifecycle.join_tokens import NewJoinToken
from control_plane.lifecycle.join_tokens import create as create_join_token
from control_plane.lifecycle.join_tokens import delete as delete_join_token
from control_plane.lifecycle.requests import refuse, require_saved
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection

__all__ = [
    "Enrolment",
    "NewJoinToken",
    "connect",
    "create_join_token",
    "delete_join_token",
    "disconnect",
    "disconnect_all",
    "drain",
    "enrol",
    "renew",
    "resume",
    "revoke",
]

_MOST_WARNINGS = 32
_WARNING_CHARACTERS = 1_000
_ID_CHARACTERS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class _Changed:
    runner: Runner
    withdrawn: tuple[Case, ...] = ()


async def connect(house: House, runner_id: RunnerId, hello: Hello, *, credential_generation: int) -> Runner:
    """A new session: its epoch is one above every earlier one of this runner, so that the newest Hello wins.

    Labels that were not granted are left out, with a warning. Raises NotFound, PermissionDenied RUNNER_REVOKED (also
    for a credential of an earlier generation), InvalidArgument with every offending field.
    """
    refuse(*_violations(hello))

    def body(connection: Connection) -> _Changed:
        old = _load(connection, runner_id)
        if old.revoked_at is not None or old.credential_generation != credential_generation:
            raise PermissionDenied(ErrorCode.RUNNER_REVOKED)
        new = _connected(house, old, hello)
        require_saved(writes.save_runner(connection, old, new))
        return _Changed(runner=new)

    return await _write(house, body, "runners.connect")


async def disconnect(house: House, runner_id: RunnerId, session_epoch: int | None) -> bool:
    """The session has ended; False when a newer one has taken over, whose runner is not away.

    None: an ended one of which nobody knows how far it came. It is for a runner that has no other session just now:
    what a later one stores comes behind this.
    """

    def body(connection: Connection) -> Runner | None:
        old = reads.runner(connection, runner_id)
        if old is None or not old.connected or session_epoch not in (None, old.session_epoch):
            return None
        now = house.clock.now()
        new = replace(old, connected=False, disconnected_since=now, last_seen_at=now)
        require_saved(writes.save_runner(connection, old, new))
        return new

    def after(runner: Runner | None) -> None:
        if runner is not None:
            house.watch.notify(*_topics(runner))

    return await house.database.write(body, name="runners.disconnect", after=after) is not None


async def disconnect_all(house: House) -> int:
    """When the server starts nobody is connected, whatever the last one wrote; how many were marked so."""

    def body(connection: Connection) -> int:
        return writes.disconnect_runners(connection, house.clock.now())

    return await house.database.write(body, name="runners.disconnect_all")


async def drain(house: House, runner_id: RunnerId) -> Runner:
    """No more offers, those that are out are taken back; what runs goes on. Raises NotFound."""

    def body(connection: Connection) -> _Changed:
        old = _load(connection, runner_id)
        new = replace(old, draining=True)
        require_saved(writes.save_runner(connection, old, new))
        withdrawn = attempts.withdraw_offers_in(house, connection, runner_id, "the runner is being drained")
        return _Changed(runner=new, withdrawn=withdrawn)

    return await _write(house, body, "runners.drain")


async def resume(house: House, runner_id: RunnerId) -> Runner:
    """Offers again. Raises NotFound."""

    def body(connection: Connection) -> _Changed:
        old = _load(connection, runner_id)
        new = replace(old, draining=False)
        require_saved(writes.save_runner(connection, old, new))
        return _Changed(runner=new)

    return await _write(house, body, "runners.resume")


async def revoke(house: House, runner_id: RunnerId) -> Runner:
    """Its credentials are void, offers to it are taken back, and it can never renew; again is no error.

    Its session ends when its holder hears of "runner:<id>". Raises NotFound.
    """

    def body(connection: Connection) -> _Changed:
        old = _load(connection, runner_id)
        if old.revoked_at is not None:
            return _Changed(runner=old)
        generation = old.credential_generation + 1
        new = replace(old, revoked_at=house.clock.now(), credential_generation=generation)
        require_saved(writes.save_runner(connection, old, new))
        # Nobody will ever say that what it holds is gone.
        writes.store_withheld(connection, runner_id=runner_id, runs=(), at=house.clock.now())
        withdrawn = attempts.withdraw_offers_in(house, connection, runner_id, "the runner was revoked")
        return _Changed(runner=new, withdrawn=withdrawn)

    revoked = await _write(house, body, "runners.revoke")
    house.withheld.pop(runner_id, None)
    return revoked


async def _write(house: House, body: Callable[[Connection], _Changed], name: str) -> Runner:
    changed: _Changed = await house.database.write(body, name=name, after=partial(_tell, house))
    return changed.runner


def _tell(house: House, changed: _Changed) -> None:
    house.told(changed.withdrawn)
    house.watch.notify(*_topics(changed.runner))


def _topics(runner: Runner) -> tuple[str, ...]:
    return ("queue", "slots", "runners", f"runner:{runner.id}")


def _load(connection: Connection, runner_id: RunnerId) -> Runner:
    runner = reads.runner(connection, runner_id)
    if runner is None:
        raise NotFound(ErrorCode.RUNNER_NOT_FOUND)
    return runner


def _connected(house: House, old: Runner, hello: Hello) -> Runner:
    dropped = not_granted(hello.labels, old.granted_labels)
    warnings = [f"The label {key} was not granted by its join token and is ignored." for key in dropped]
    warnings += [text[:_WARNING_CHARACTERS] for text in hello.warnings]
    return replace(
        old,
        labels={key: value for key, value in hello.labels.items() if key not in dropped},
        slots=hello.slots,
        agent_version=hello.agent_version,
        boot_id=hello.boot_id,
        state_directory_id=hello.state_directory_id,
        warnings=tuple(warnings[:_MOST_WARNINGS]),
        last_seen_at=house.clock.now(),
        session_epoch=old.session_epoch + 1,
        connected=True,
        disconnected_since=None,
    )


def _violations(hello: Hello) -> tuple[FieldViolation, ...]:
    found = [*check_labels(hello.labels, "hello.labels")]
    if not 1 <= hello.slots <= limits.SLOTS:
        found.append(FieldViolation(field="hello.slots", description=f"must be 1 to {limits.SLOTS}"))
    if not 1 <= len(hello.state_directory_id) <= _ID_CHARACTERS:
        found.append(FieldViolation(field="hello.state_directory_id", description="must be 1 to 128 characters"))
    found += [
        FieldViolation(field=f"hello.{name}", description=f"must have at most {_ID_CHARACTERS} characters")
        for name, text in (("boot_id", hello.boot_id), ("agent_version", hello.agent_version))
        if len(text) > _ID_CHARACTERS
    ]
    return tuple(found)
