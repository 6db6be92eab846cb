"""The requests for a stored answer that is decoded again, and the new answer from the responses."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from videoanalysis.errors import InvalidInput, Unavailable
from videoanalysis.v1.analysis_pb2 import (
    AnalyzeVideoRequest,
    AnalyzeVideoResponse,
    ChunkResult,
    RedecodeHeader,
    RedecodeVideoRequest,
    RedecodeVideoResponse,
)
from videoanalysis.v1.error_reason_pb2 import ErrorReason
from videoanalysis.video_analysis import VideoAnalysis

_REPLACED = ("tags", "caption", "scene_changes", "scenes", "chunks", "timing", "usage", "text_bank", "stream_id")


class Redecoding:
    """`stored` is an answer with embeddings; `options` are fields of AnalyzeVideoRequest. Raises InvalidInput."""

    def __init__(self, stored: AnalyzeVideoResponse, options: Mapping[str, Any]) -> None:
        if not stored.chunks or not all(chunk.HasField("embeddings") for chunk in stored.chunks):
            raise InvalidInput("the stored answer has no embeddings: analyse with include_embeddings (--embeddings)")
        self._stored = stored
        self._options = options
        self._answer = AnalyzeVideoResponse()
        self._answer.CopyFrom(stored)
        for field in _REPLACED:
            self._answer.ClearField(field)
        self._has_summary = False
        self._is_refused = True
        # A refusal that arrives while chunks are written would be lost, so they are sent once the header is accepted.
        self._decided = threading.Event()
        self._decided_async = asyncio.Event()

    def requests(self) -> Iterator[RedecodeVideoRequest]:
        yield self._header()
        self._decided.wait()
        yield from self._chunks()

    async def requests_async(self) -> AsyncIterator[RedecodeVideoRequest]:
        yield self._header()
        await self._decided_async.wait()
        for request in self._chunks():
            yield request

    def end(self) -> None:
        """The call has ended."""
        self._decided.set()
        self._decided_async.set()

    def _header(self) -> RedecodeVideoRequest:
        header = RedecodeHeader(analysis=AnalyzeVideoRequest(**self._options), model=self._stored.model)
        return RedecodeVideoRequest(header=header)

    def _chunks(self) -> Iterator[RedecodeVideoRequest]:
        if self._is_refused:
            return
        for stored in self._stored.chunks:
            chunk = ChunkResult()
            chunk.CopyFrom(stored)
            for field in ("tags", "caption", "scene_scores"):
                chunk.ClearField(field)
            yield RedecodeVideoRequest(chunk=chunk)

    def receive(self, response: RedecodeVideoResponse) -> None:
        self._answer.scenes.extend(response.finished_scenes)
        match response.WhichOneof("event"):
            case "accepted":
                self._is_refused = False
                self.end()
            case "chunk":
                chunk = response.chunk
                chunk.embeddings.CopyFrom(self._stored.chunks[len(self._answer.chunks)].embeddings)
                self._answer.scene_changes.extend(chunk.scene_changes)
                self._answer.chunks.append(chunk)
            case "summary":
                self._answer.MergeFrom(response.summary)
                self._answer.model.CopyFrom(self._stored.model)
                self._has_summary = True

    def result(self) -> VideoAnalysis:
        """The new answer, with what `stored` says of the video file."""
        if not self._has_summary:
            raise Unavailable("the service ended the call without a summary", reason=ErrorReason.INCOMPLETE_ANSWER)
        return VideoAnalysis.from_message(self._answer)
