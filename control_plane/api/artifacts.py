"""Stored files for their readers: the list of a run's, and one's bytes from any offset."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

from banksman.v1 import artifact_pb2

from control_plane.api.mapping import Plan
from control_plane.artifacts.intake import Intake
from control_plane.domain.artifact import CHUNK_BYTES, Artifact
from control_plane.domain.errors import ErrorCode, FieldViolation, NotFound, OutOfRange, invalid_fields

ARTIFACT = Plan(Artifact, artifact_pb2.Artifact, stored=True)

Items = AsyncGenerator[artifact_pb2.DownloadArtifactResponse, None]


async def download(intake: Intake, found: Artifact | None, offset: int) -> Items:
    """What it is, then its bytes. Raises NotFound, InvalidArgument, OutOfRange OFFSET_BEYOND_END."""
    if found is None:
        raise NotFound(ErrorCode.ARTIFACT_NOT_FOUND)
    if offset < 0:
        raise invalid_fields(FieldViolation(field="offset", description="must not be negative"))
    if offset > found.size_bytes:
        raise OutOfRange(ErrorCode.OFFSET_BEYOND_END, f"{found.name} has {found.size_bytes} bytes.")
    yield artifact_pb2.DownloadArtifactResponse(artifact=ARTIFACT.encode(found))
    while offset < found.size_bytes:
        data = await _piece(intake, found, offset)
        yield artifact_pb2.DownloadArtifactResponse(data=data)
        offset += len(data)


async def _piece(intake: Intake, found: Artifact, offset: int) -> bytes:
    """Raises NotFound when it was removed meanwhile."""
    try:
        data = await intake.in_thread(partial(intake.files.read, found, offset, CHUNK_BYTES))
    except FileNotFoundError:
        data = b""
    if not data:
        raise NotFound(ErrorCode.ARTIFACT_NOT_FOUND, f"{found.name} is not kept any longer.")
    return data
