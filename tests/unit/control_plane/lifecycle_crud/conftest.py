"""A house on a real database, with the product's own spec codec and a vault that only turns values around."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from control_plane.api.convert import ProtoSpecCodec
from control_plane.domain.ids import PrincipalId, ProjectId, RunnerId
from control_plane.domain.principal import Caller, Principal, PrincipalKind
from control_plane.domain.project import Project
from control_plane.domain.session import ToRunner
from control_plane.domain.spec import Command, RunSpec, Step
from control_plane.lifecycle import housekeeping, projects, secrets
from control_plane.lifecycle.house import House
from control_plane.storage.database import Database
from control_plane.watch import Watch
from tests.fakes.clock import FakeClock

SPEC = RunSpec(steps=(Step(command=Command(argv=("true",))),))


class TurningVault:
    """Seals by turning the bytes around under a label; not secret, but never the plain value."""

    def seal(self, project_id: ProjectId, name: str, version: int, value: bytes) -> bytes:
        return f"{project_id}/{name}/{version}:".encode() + value[::-1]

    def open(self, project_id: ProjectId, name: str, version: int, sealed: bytes) -> bytes:
        label = f"{project_id}/{name}/{version}:".encode()
        if not sealed.startswith(label):
            raise ValueError("altered or moved")
        return sealed[len(label) :][::-1]


@dataclass(slots=True, kw_only=True)
class Stage:
    """A house, its clock, a caller, and what was said to runners."""

    house: House
    clock: FakeClock
    caller: Caller
    default: Project
    said: list[tuple[RunnerId, ToRunner]] = field(default_factory=list)

    async def keep(self, *names: str) -> None:
        """Secrets with these names."""
        for name in names:
            value = secrets.NewValue(project_id=self.default.id, name=name, value=b"a long enough value")
            await secrets.put(self.house, self.caller, value)

    def asking(self, request_id: str) -> Caller:
        return replace(self.caller, request_id=request_id)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def stage(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Stage]:
    database = Database.open(tmp_path, clock)
    said: list[tuple[RunnerId, ToRunner]] = []
    house = House(
        database=database,
        clock=clock,
        watch=Watch(),
        codec=ProtoSpecCodec(),
        vault=TurningVault(),
        post=lambda runner_id, message: said.append((runner_id, message)),
    )
    try:
        await housekeeping.prepare(house)
        admin = Principal(
            id=PrincipalId(clock.new_id()), kind=PrincipalKind.USER, name="ada", admin=True, created_at=clock.now()
        )
        default = await projects.ensure_default(house)
        yield Stage(house=house, clock=clock, caller=Caller(principal=admin), default=default, said=said)
    finally:
        await database.close()
