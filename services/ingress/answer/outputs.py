"""Answers written to S3 as JSON while the analysis runs, besides being returned."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from google.protobuf import json_format
from google.protobuf.message import Message

from videoanalysis import tracing
from videoanalysis.errors import FailedPrecondition, InvalidInput, NotFound, PermissionDenied
from videoanalysis.storage import S3Uri, Storage, Upload
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, ChunkResult, Cut, Progress, Scene, Transition
from videoanalysis.v1.decoder_pb2 import SceneChange, TextBankInfo
from videoanalysis.v1.encoder_pb2 import ModelInfo
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_FIELD = "output_uri"
# Scenes and scene changes follow the chunks in the document, so they are kept until the last chunk.
_MAX_KEPT_BYTES = 32 << 20
_MESSAGES_PER_WRITE = 64


class Output:
    """An observer that writes nothing."""

    async def opened(self, seconds: float, model: ModelInfo, text_bank: TextBankInfo) -> None:
        pass

    async def progress(self, progress: Progress) -> None:
        pass

    async def chunk(self, result: ChunkResult, finished_scenes: Sequence[Scene], resume_token: bytes) -> None:
        pass

    async def finish(self, summary: AnalyzeVideoResponse) -> None:
        """Writes and completes the answer; `summary` has the last scene, and none of the fields that chunks carried."""


class Outputs:
    """Writes to URIs under one of `allowed_prefixes`; a prefix ends at a slash."""

    def __init__(self, storage: Storage, allowed_prefixes: Sequence[str]) -> None:
        self._storage = storage
        self._allowed = [prefix.rstrip("/") + "/" for prefix in allowed_prefixes]

    def locate(self, uri: str) -> S3Uri | None:
        """None for an empty `uri`; raises InvalidInput or PermissionDenied."""
        if not uri:
            return None
        parsed = S3Uri.parse(uri, _FIELD)
        parsed.check_dot_segments(_FIELD)
        if not any(uri.startswith(prefix) for prefix in self._allowed):
            raise PermissionDenied(
                f"{_FIELD}: this prefix is not allowed here; the operator allows it with "
                "INGRESS_ALLOWED_OUTPUT_PREFIXES",
                reason=ErrorReason.OUTPUT_NOT_ALLOWED,
                field=_FIELD,
            )
        return parsed

    @asynccontextmanager
    async def open(self, uri: S3Uri | None) -> AsyncIterator[Output]:
        """The object at `uri` exists once Output.finish has ended; None writes nothing."""
        if uri is None:
            yield Output()
            return
        async with self._storage.upload(uri, "application/json") as upload:
            yield JsonOutput(upload)


class JsonOutput(Output):
    """An AnalyzeVideoResponse as protobuf JSON: chunks are written as they come, all else follows."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._restart()

    def _restart(self) -> None:
        self._chunks = 0
        self._scenes: list[bytes] = []
        self._scene_changes: list[bytes] = []
        self._cuts: list[bytes] = []
        self._transitions: list[bytes] = []
        self._kept_bytes = 0

    async def opened(self, seconds: float, model: ModelInfo, text_bank: TextBankInfo) -> None:
        self._restart()
        with _errors_of_field():
            await self._upload.restart()

    async def chunk(self, result: ChunkResult, finished_scenes: Sequence[Scene], resume_token: bytes) -> None:
        self._keep(self._scenes, finished_scenes)
        self._keep(self._scene_changes, result.scene_changes)
        self._keep(self._cuts, result.cuts)
        self._keep(self._transitions, result.transitions)
        await self._write("," if self._chunks else '{"chunks":[', await _json([result]))
        self._chunks += 1

    async def finish(self, summary: AnalyzeVideoResponse) -> None:
        with tracing.span("output"):
            await self._finish(summary)

    async def _finish(self, summary: AnalyzeVideoResponse) -> None:
        self._keep(self._scenes, summary.scenes)
        rest = AnalyzeVideoResponse()
        rest.CopyFrom(summary)
        rest.ClearField("scenes")
        await self._write("]" if self._chunks else '{"chunks":[]')
        await self._write_list("scenes", Scene, self._scenes)
        await self._write_list("sceneChanges", SceneChange, self._scene_changes)
        await self._write_list("cuts", Cut, self._cuts)
        await self._write_list("transitions", Transition, self._transitions)
        # Without the opening brace: the members continue an object.
        members = (await _json([rest]))[1:]
        await self._write(members if members == "}" else f",{members}")
        with _errors_of_field():
            await self._upload.complete()

    async def _write_list(self, name: str, kind: type[Message], kept: list[bytes]) -> None:
        for start in range(0, len(kept), _MESSAGES_PER_WRITE):
            messages = [kind.FromString(message) for message in kept[start : start + _MESSAGES_PER_WRITE]]
            await self._write("," if start else f',"{name}":[', await _json(messages))
        if kept:
            await self._write("]")

    def _keep(self, kept: list[bytes], messages: Iterable[Message]) -> None:
        """Serialised, which takes less memory."""
        for message in messages:
            kept.append(message.SerializeToString())
            self._kept_bytes += len(kept[-1])
        if self._kept_bytes > _MAX_KEPT_BYTES:
            raise InvalidInput(
                f"{_FIELD}: scenes, scene changes and cuts exceed the {_MAX_KEPT_BYTES} bytes that can be written; "
                "lower top_k_tags, raise scene_threshold, or read the stream without output_uri",
                reason=ErrorReason.RESPONSE_TOO_LARGE,
                field=_FIELD,
            )

    async def _write(self, *texts: str) -> None:
        with _errors_of_field():
            await self._upload.write("".join(texts).encode())


async def _json(messages: Sequence[Message]) -> str:
    """Serialised in a thread: embeddings and scenes take milliseconds."""
    return await asyncio.to_thread(
        lambda: ",".join(json_format.MessageToJson(message, indent=None, ensure_ascii=False) for message in messages)
    )


@contextmanager
def _errors_of_field() -> Iterator[None]:
    """Sets the request's field in errors about the object; the storage client does not have it."""
    try:
        yield
    except (InvalidInput, NotFound, PermissionDenied, FailedPrecondition) as error:
        error.field = _FIELD
        raise
