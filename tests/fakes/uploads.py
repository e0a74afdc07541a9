"""The upload of a scripted runner: one call, word by word."""

from __future__ import annotations

import hashlib
from typing import Any

import grpc
from banksman.v1 import session_pb2 as pb

from tests.fakes.runner import ScriptedRunner


class Upload:
    """One call."""

    def __init__(self, runner: ScriptedRunner) -> None:
        self.runner = runner
        self.call = runner.stub.UploadArtifact(metadata=(("authorization", f"Bearer {runner.credential}"),))

    async def ask(self, **message: Any) -> Any:
        """The answer: its kind and itself. Raises AioRpcError."""
        await self.call.write(pb.UploadArtifactRequest(**message))
        answer = await self.call.read()
        if answer is grpc.aio.EOF:
            code, details = await self.call.code(), await self.call.details()
            raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)
        kind = answer.WhichOneof("message")
        return kind, getattr(answer, kind)

    async def open(self, key: Any, directory: str = "") -> Any:
        return await self.ask(
            open=pb.UploadOpen(key=key, state_directory_id=directory or self.runner.state_directory_id)
        )

    async def begin(self, name: str, data: bytes, **more: Any) -> Any:
        facts = {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **more}
        return await self.ask(begin=pb.UploadBegin(name=name, **facts))

    async def chunk(self, offset: int, data: bytes) -> Any:
        return await self.ask(chunk=pb.UploadChunk(offset=offset, data=data))

    async def put(self, name: str, data: bytes) -> str:
        """Begin and send it whole; how it was answered."""
        kind, answer = await self.begin(name, data)
        if kind == "offset":
            kind, answer = await self.chunk(answer.offset, data[answer.offset :])
        return str(kind) if kind != "refused" else str(answer.why)
