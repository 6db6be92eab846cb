"""The requests of one RedecodeVideo call for a stored answer, and the new answer from its responses."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

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
    """One call. `stored` is an answer with embeddings, else InvalidInput; `request` has the options of the new one."""

    def __init__(self, stored: AnalyzeVideoResponse, request: AnalyzeVideoRequest) -> None:
        if not stored.chunks or not all(chunk.HasField("embeddings") for chunk in stored.chunks):
            raise InvalidInput("the stored answer has no embeddings: analyse with include_embeddings (--embeddings)")
        self._stored = stored
        self._request = request
        self._answer = AnalyzeVideoResponse()
        self._answer.CopyFrom(stored)
        for field in _REPLACED:
            self._answer.ClearField(field)
        self._has_summary = False
        self.has_started = False
        # gRPC replaces a status that arrives during a write, so a chunk is sent after the response to the last one.
        self._has_ended = False
        self._answered = threading.Semaphore(0)
        self._answered_async = asyncio.Semaphore(0)

    def requests(self) -> Iterator[RedecodeVideoRequest]:
        yield self._header()
        for chunk in self._chunks():
            self._answered.acquire()
            if self._has_ended:
                return
            yield chunk

    async def requests_async(self) -> AsyncIterator[RedecodeVideoRequest]:
        yield self._header()
        for chunk in self._chunks():
            await self._answered_async.acquire()
            if self._has_ended:
                return
            yield chunk

    def end(self) -> None:
        """The call has ended."""
        self._has_ended = True
        self._allow_next()

    def _allow_next(self) -> None:
        self._answered.release()
        self._answered_async.release()

    def _header(self) -> RedecodeVideoRequest:
        header = RedecodeHeader(analysis=self._request, model=self._stored.model)
        return RedecodeVideoRequest(header=header)

    def _chunks(self) -> Iterator[RedecodeVideoRequest]:
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
                self.has_started = True
                self._allow_next()
            case "chunk":
                chunk = response.chunk
                chunk.embeddings.CopyFrom(self._stored.chunks[len(self._answer.chunks)].embeddings)
                self._answer.scene_changes.extend(chunk.scene_changes)
                self._answer.chunks.append(chunk)
                self._allow_next()
            case "summary":
                self._answer.MergeFrom(response.summary)
                self._answer.model.CopyFrom(self._stored.model)
                self._has_summary = True

    def result(self) -> VideoAnalysis:
        """The new answer, with the fields of `stored` about the video file."""
        if not self._has_summary:
            raise Unavailable("the service ended the call without a summary", reason=ErrorReason.INCOMPLETE_ANSWER)
        return VideoAnalysis.from_message(self._answer)
