"""SystemService: the control plane about itself."""

from __future__ import annotations

import shutil

from banksman.v1 import system_pb2, system_pb2_grpc

from control_plane.api.desk import Desk
from control_plane.api.interceptors import Context
from control_plane.api.mapping import Plan, timestamp
from control_plane.lifecycle import retention
from control_plane.storage import reads

LOW_DISK_BYTES = 1 << 30
STATUS = Plan(
    reads.StatusCounts,
    system_pb2.GetStatusResponse,
    absent=frozenset({"database_bytes", "log_bytes", "disk_free_bytes", "warnings"}),
)
GARBAGE = Plan(retention.Garbage, system_pb2.Garbage)


class SystemServicer(system_pb2_grpc.SystemServiceServicer):
    """Version, counts, warnings."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def GetServerInfo(
        self, request: system_pb2.GetServerInfoRequest, context: Context
    ) -> system_pb2.GetServerInfoResponse:
        desk, timing = self._desk, self._desk.house.timing
        return system_pb2.GetServerInfoResponse(
            version=desk.version,
            instance_id=desk.instance_id,
            started_at=timestamp(desk.started_at),
            server_time=timestamp(desk.house.clock.now()),
            session_protocol_min=timing.protocol_min,
            session_protocol_max=timing.protocol_max,
        )

    async def GetStatus(self, request: system_pb2.GetStatusRequest, context: Context) -> system_pb2.GetStatusResponse:
        answer = STATUS.encode(await self._desk.read(reads.status_counts))
        answer.database_bytes = self._desk.house.database.size_bytes()
        answer.log_bytes = await self._desk.read(reads.log_bytes_total)
        answer.disk_free_bytes = shutil.disk_usage(self._desk.settings.state_dir).free
        answer.warnings.extend(self._warnings(answer.disk_free_bytes))
        return answer

    async def CollectGarbage(
        self, request: system_pb2.CollectGarbageRequest, context: Context
    ) -> system_pb2.CollectGarbageResponse:
        found = await retention.look(self._desk.house, self._desk.settings.retention())
        if not request.dry_run:
            for collect in self._desk.collectors:
                await collect()
        return system_pb2.CollectGarbageResponse(garbage=[GARBAGE.encode(each) for each in found])

    def _warnings(self, free_bytes: int) -> list[str]:
        """Sentences that an operator should read."""
        warnings = []
        if free_bytes < LOW_DISK_BYTES:
            warnings.append(f"Only {free_bytes >> 20} MiB are free on the disk of the state directory.")
        if self._desk.settings.insecure:
            warnings.append("Calls and tokens travel in plain text; anybody on the network can read them.")
        return warnings
