"""Receivers of an analysis while it runs: one collects it for a unary answer, one streams it to the caller."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

from services.ingress.answer.size import LargestSizes, check_unary
from services.ingress.job import AnalysisRequest
from videoanalysis.v1.analysis_pb2 import (
    STAGE_WAITING,
    AnalyzeVideoResponse,
    ChunkResult,
    Progress,
    RedecodeAccepted,
    RedecodeVideoResponse,
    Scene,
    StreamAnalyzeVideoResponse,
)
from videoanalysis.v1.decoder_pb2 import TextBankInfo
from videoanalysis.v1.encoder_pb2 import ModelInfo

_SECONDS_BETWEEN_PROGRESS = 0.2

_Response = TypeVar("_Response")


class Observer(Protocol):
    """Receives the events of one analysis in order. An exception it raises ends the analysis."""

    async def opened(self, seconds: float, model: ModelInfo, text_bank: TextBankInfo) -> None:
        """Before anything is encoded. A second time if the video restarts: then the chunks so far are void.

        `seconds` is the duration of what is analysed, by the container's claim; 0 if it makes none. The bank is empty
        where there is none.
        """

    async def progress(self, progress: Progress) -> None: ...

    async def chunk(self, result: ChunkResult, finished_scenes: Sequence[Scene], resume_token: bytes) -> None:
        """A chunk, the scenes that end in it, and the token to resume behind it, empty if there is none."""


class Observers:
    """Passes every event to each of several observers in turn."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    async def opened(self, seconds: float, model: ModelInfo, text_bank: TextBankInfo) -> None:
        for observer in self._observers:
            await observer.opened(seconds, model, text_bank)

    async def progress(self, progress: Progress) -> None:
        for observer in self._observers:
            await observer.progress(progress)

    async def chunk(self, result: ChunkResult, finished_scenes: Sequence[Scene], resume_token: bytes) -> None:
        for observer in self._observers:
            await observer.chunk(result, finished_scenes, resume_token)


class UnaryCollector:
    """Keeps chunks and scenes for an answer in one message; raises InvalidInput as soon as they might not fit."""

    def __init__(self, request: AnalysisRequest) -> None:
        self._request = request
        self._answer = AnalyzeVideoResponse()
        self._bytes = 0

    async def opened(self, seconds: float, model: ModelInfo, text_bank: TextBankInfo) -> None:
        self._answer.Clear()
        self._bytes = 0
        check_unary(LargestSizes(self._request, model, text_bank).answer(seconds))

    async def progress(self, progress: Progress) -> None:
        pass

    async def chunk(self, result: ChunkResult, finished_scenes: Sequence[Scene], resume_token: bytes) -> None:
        # The container may have claimed too short a duration.
        part = AnalyzeVideoResponse(
            chunks=[result],
            scene_changes=result.scene_changes,
            scenes=finished_scenes,
            cuts=result.cuts,
            transitions=result.transitions,
        )
        self._bytes += part.ByteSize()
        check_unary(self._bytes)
        self._answer.MergeFrom(part)

    def answer(self, summary: AnalyzeVideoResponse) -> AnalyzeVideoResponse:
        """`summary` with what came before it."""
        self._answer.MergeFrom(summary)
        check_unary(self._answer.ByteSize())
        return self._answer


class _Events(Generic[_Response]):
    """The responses of a call, one at a time, and progress again after `heartbeat_seconds` without any.

    Gateways close a stream that is silent for long, by default for 60 s.
    """

    def __init__(
        self,
        write: Callable[[_Response], Awaitable[None]],
        heartbeat_seconds: float,
        with_progress: Callable[[Progress], _Response],
    ) -> None:
        self._write = write
        self._heartbeat_seconds = heartbeat_seconds
        self._with_progress = with_progress
        self._writing = asyncio.Lock()
        self._last_progress = Progress(stage=STAGE_WAITING)
        self._progress_at = float("-inf")
        self._written_at = time.monotonic()

    async def send(self, response: _Response) -> None:
        # gRPC takes one message at a time; progress of the download and of a cold start comes from two tasks.
        async with self._writing:
            await self._write(response)
            self._written_at = time.monotonic()

    async def progress(self, progress: Progress) -> None:
        """Sent if a new stage has begun, otherwise at most every 0.2 s."""
        now = time.monotonic()
        if progress.stage == self._last_progress.stage and now < self._progress_at + _SECONDS_BETWEEN_PROGRESS:
            return
        self._last_progress, self._progress_at = progress, now
        await self.send(self._with_progress(progress))

    @asynccontextmanager
    async def heartbeat(self) -> AsyncGenerator[None]:
        """Repeats the last progress while the context lasts; a write that fails ends the context with its error."""
        try:
            async with asyncio.TaskGroup() as tasks:
                repeating = tasks.create_task(self._repeat())
                yield
                repeating.cancel()
        except BaseExceptionGroup as group:
            # Of the block and the task, one fails and the other is cancelled.
            raise group.exceptions[0] from group.exceptions[0].__cause__

    async def _repeat(self) -> None:
        while True:
            silent_seconds = time.monotonic() - self._written_at
            if silent_seconds < self._heartbeat_seconds:
                await asyncio.sleep(self._heartbeat_seconds - silent_seconds)
                continue
            progress = Progress()
            progress.CopyFrom(self._last_progress)
            elapsed = time.monotonic() - self._progress_at
            progress.estimated_wait_seconds = max(0.0, progress.estimated_wait_seconds - elapsed)
            await self.send(self._with_progress(progress))


class StreamWriter:
    """Streams every event to the caller with `write`, and keeps none."""

    def __init__(
        self, write: Callable[[StreamAnalyzeVideoResponse], Awaitable[None]], heartbeat_seconds: float
    ) -> None:
        self._events = _Events(write, heartbeat_seconds, lambda progress: StreamAnalyzeVideoResponse(progress=progress))
        self.heartbeat = self._events.heartbeat

    async def opened(self, seconds: float, model: ModelInfo, text_bank: TextBankInfo) -> None:
        pass

    async def progress(self, progress: Progress) -> None:
        await self._events.progress(progress)

    async def chunk(self, result: ChunkResult, finished_scenes: Sequence[Scene], resume_token: bytes) -> None:
        await self._events.send(
            StreamAnalyzeVideoResponse(chunk=result, finished_scenes=finished_scenes, resume_token=resume_token)
        )

    async def summary(self, summary: AnalyzeVideoResponse) -> None:
        await self._events.send(StreamAnalyzeVideoResponse(summary=summary))


class RedecodedWriter:
    """Streams chunks of stored embeddings, decoded again, to the caller with `write`."""

    def __init__(self, write: Callable[[RedecodeVideoResponse], Awaitable[None]], heartbeat_seconds: float) -> None:
        self._events: _Events[RedecodeVideoResponse] = _Events(
            write, heartbeat_seconds, lambda progress: RedecodeVideoResponse(progress=progress)
        )
        self.heartbeat = self._events.heartbeat

    async def opened(self, seconds: float, model: ModelInfo, text_bank: TextBankInfo) -> None:
        await self._events.send(RedecodeVideoResponse(accepted=RedecodeAccepted(text_bank=text_bank)))

    async def progress(self, progress: Progress) -> None:
        await self._events.progress(progress)

    async def chunk(self, result: ChunkResult, finished_scenes: Sequence[Scene], resume_token: bytes) -> None:
        await self._events.send(RedecodeVideoResponse(chunk=result, finished_scenes=finished_scenes))

    async def summary(self, summary: AnalyzeVideoResponse) -> None:
        await self._events.send(RedecodeVideoResponse(summary=summary))
