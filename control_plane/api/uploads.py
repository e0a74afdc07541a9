"""One upload's words: what a runner sends is answered one by one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from banksman.v1 import session_pb2 as pb

from control_plane.api.convert import ARTIFACT_PATTERN
from control_plane.artifacts.intake import Intake, Upload
from control_plane.domain.artifact import Announced
from control_plane.domain.errors import BanksmanError, ErrorCode, FieldViolation, PermissionDenied, invalid_fields
from control_plane.domain.ids import AttemptKey, Holder, RunId
from control_plane.domain.principal import Caller

Requests = AsyncIterator[pb.UploadArtifactRequest]


async def answers(
    intake: Intake, caller: Caller, requests: Requests
) -> AsyncGenerator[pb.UploadArtifactResponse, None]:
    """Until the attempt is finished or the runner leaves. Raises BanksmanError."""
    upload: Upload | None = None
    try:
        async for request in requests:
            if upload is None:
                upload = await _opened(intake, caller, request)
                yield _wanted(upload)
            else:
                yield await _answer(upload, request)
            if upload is None or request.WhichOneof("message") == "finish":
                return
    finally:
        if upload is not None:
            intake.close(upload)


async def _opened(intake: Intake, caller: Caller, request: pb.UploadArtifactRequest) -> Upload | None:
    if caller.runner_id is None:
        raise PermissionDenied(ErrorCode.METHOD_FORBIDDEN)
    if request.WhichOneof("message") != "open":
        raise _wrong("must be an open before anything else")
    key = AttemptKey(run_id=RunId(request.open.key.run_id), lease_epoch=request.open.key.lease_epoch)
    holder = Holder(runner_id=caller.runner_id, state_directory_id=request.open.state_directory_id)
    return await intake.open(holder, key)


def _wanted(upload: Upload | None) -> pb.UploadArtifactResponse:
    if upload is None:
        return pb.UploadArtifactResponse(finished=pb.UploadFinished())
    limits = upload.limits
    return pb.UploadArtifactResponse(
        wanted=pb.UploadWanted(
            artifacts=[ARTIFACT_PATTERN.encode(each) for each in upload.patterns],
            max_file_bytes=limits.file_bytes,
            max_total_bytes=limits.total_bytes,
            max_files=limits.files,
        )
    )


async def _answer(upload: Upload, request: pb.UploadArtifactRequest) -> pb.UploadArtifactResponse:
    match request.WhichOneof("message"):
        case "begin":
            said = request.begin
            return _place(
                await upload.begin(
                    Announced(
                        name=said.name, size_bytes=said.size_bytes, sha256=said.sha256, executable=said.executable
                    )
                )
            )
        case "chunk":
            return _place(await upload.chunk(request.chunk.offset, request.chunk.data))
        case "finish":
            await upload.finish(request.finish.notes)
            return pb.UploadArtifactResponse(finished=pb.UploadFinished())
        case _:
            raise _wrong("must be a begin, a chunk or a finish behind the open")


def _place(found: int | str | None) -> pb.UploadArtifactResponse:
    match found:
        case None:
            return pb.UploadArtifactResponse(stored=pb.UploadStored())
        case int():
            return pb.UploadArtifactResponse(offset=pb.UploadOffset(offset=found))
        case str():
            return pb.UploadArtifactResponse(refused=pb.UploadRefused(why=found))


def _wrong(what: str) -> BanksmanError:
    return invalid_fields(FieldViolation(field="message", description=what))
