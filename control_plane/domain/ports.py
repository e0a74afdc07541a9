"""What the rules need from outside: who implements it lives on a higher floor."""

from typing import Protocol

from control_plane.domain.ids import ProjectId
from control_plane.domain.spec import RunSpec


class SpecCodec(Protocol):
    """Specs as stored bytes. The encoding is canonical: equal specs give equal bytes."""

    def encode(self, spec: RunSpec) -> bytes: ...

    def decode(self, data: bytes) -> RunSpec: ...


class Vault(Protocol):
    """Secret values at rest. `open` raises ValueError when the sealed bytes were altered or moved."""

    def seal(self, project_id: ProjectId, name: str, version: int, value: bytes) -> bytes: ...

    def open(self, project_id: ProjectId, name: str, version: int, sealed: bytes) -> bytes: ...


class HeadKey(Protocol):
    """Signs the heads of the audit trail, with a key that is not in the database. Both texts are hex."""

    @property
    def public_key(self) -> str: ...

    def sign(self, text: bytes) -> str: ...

    def is_signed(self, signature: str, text: bytes) -> bool: ...
