"""Receivers of an analysis while it runs: one collects it for a unary answer, one streams it to the caller."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from services.ingress.answer.size import LargestSizes, check_unary
from services.ingress.job import AnalysisRequest
from videoanalysis.v1.analysis_pb2 import (
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


class StreamWriter:
    """Streams every event to the caller with `write`, and keeps none."""

    def __init__(self, write: Callable[[StreamAnalyzeVideoResponse], Awaitable[None]]) -> None:
        self._write_one = write
        self._writing = asyncio.Lock()
        self._last_progress = Progress()
        self._progress_at = 0.0

    async def opened(self, seconds: float, model: ModelInfo, text_bank: TextBankInfo) -> None:
        pass

    async def progress(self, progress: Progress) -> None:
        """Written if a new stage has begun, otherwise at most every 0.2 s."""
        now = time.monotonic()
        if progress.stage == self._last_progress.stage and now < self._progress_at + _SECONDS_BETWEEN_PROGRESS:
            return
        self._last_progress, self._progress_at = progress, now
        await self._write(StreamAnalyzeVideoResponse(progress=progress))

    async def chunk(self, result: ChunkResult, finished_scenes: Sequence[Scene], resume_token: bytes) -> None:
        await self._write(
            StreamAnalyzeVideoResponse(chunk=result, finished_scenes=finished_scenes, resume_token=resume_token)
        )

    async def summary(self, summary: AnalyzeVideoResponse) -> None:
        await self._write(StreamAnalyzeVideoResponse(summary=summary))

    async def _write(self, response: StreamAnalyzeVideoResponse) -> None:
        # gRPC takes one message at a time; progress of the download and of a cold start comes from two tasks.
        async with self._writing:
            await self._write_one(response)


class RedecodedWriter:
    """Streams chunks of stored embeddings, decoded again, to the caller with `write`."""

    def __init__(self, write: Callable[[RedecodeVideoResponse], Awaitable[None]]) -> None:
        self._write = write

    async def opened(self, seconds: float, model: ModelInfo, text_bank: TextBankInfo) -> None:
        await self._write(RedecodeVideoResponse(accepted=RedecodeAccepted(text_bank=text_bank)))

    async def progress(self, progress: Progress) -> None:
        pass

    async def chunk(self, result: ChunkResult, finished_scenes: Sequence[Scene], resume_token: bytes) -> None:
        await self._write(RedecodeVideoResponse(chunk=result, finished_scenes=finished_scenes))

    async def summary(self, summary: AnalyzeVideoResponse) -> None:
        await self._write(RedecodeVideoResponse(summary=summary))
