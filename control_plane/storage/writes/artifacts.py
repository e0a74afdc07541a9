"""Writes of the files that runs leave."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, update

from control_plane.domain.artifact import Artifact, ArtifactState
from control_plane.domain.ids import ArtifactId
from control_plane.storage.shapes import ARTIFACT
from control_plane.storage.tables import ARTIFACTS


def insert_artifact(connection: Connection, artifact: Artifact) -> None:
    connection.execute(insert(ARTIFACTS), ARTIFACT.values(artifact))


def complete_artifact(connection: Connection, artifact_id: ArtifactId) -> int:
    """From here on readers see it; how many there were (0 or 1)."""
    change = update(ARTIFACTS).where(ARTIFACTS.c.id == artifact_id)
    return connection.execute(change.values(state=str(ArtifactState.COMPLETE))).rowcount


def delete_artifacts(connection: Connection, artifact_ids: Sequence[ArtifactId]) -> None:
    """Their rows: their bytes go first."""
    if artifact_ids:
        connection.execute(delete(ARTIFACTS).where(ARTIFACTS.c.id.in_(artifact_ids)))
