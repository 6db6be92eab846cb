"""What becomes of an analysis while it runs: kept for one answer, or streamed to the caller."""

import asyncio
import time
from collections.abc import Sequence

import grpc

from services.ingress.answer.size import check_unary, largest_answer
from services.ingress.job import AnalysisJob
from videoanalysis.v1.analysis_pb2 import ChunkResult, Progress, Scene, StreamAnalyzeVideoResponse
from videoanalysis.v1.decoder_pb2 import TextBankInfo
from videoanalysis.v1.encoder_pb2 import ModelInfo

_SECONDS_BETWEEN_PROGRESS = 0.2


class UnaryCollector:
    """Keeps the chunks for an answer in one message; raises InvalidInput as soon as it might not fit."""

    def __init__(self, analysis: AnalysisJob) -> None:
        self._analysis = analysis
        self._bytes = 0
        self.chunks: list[ChunkResult] = []

    async def opened(self, claimed_duration_seconds: float, model: ModelInfo, text_bank: TextBankInfo) -> None:
        self.chunks.clear()
        self._bytes = 0
        longest_label = max((len(label.encode()) for label in self._analysis.labels), default=0)
        check_unary(
            largest_answer(
                self._analysis,
                claimed_duration_seconds,
                longest_tag_bytes=longest_label or text_bank.longest_text_bytes,
                longest_caption_bytes=text_bank.longest_text_bytes,
                embedding_dim=model.embedding_dim,
            )
        )

    async def progress(self, progress: Progress) -> None:
        pass

    async def chunk(self, result: ChunkResult, finished_scenes: Sequence[Scene], resume_token: bytes) -> None:
        # The container may have claimed too short a duration.
        self._bytes += result.ByteSize()
        check_unary(self._bytes)
        self.chunks.append(result)


class StreamWriter:
    """Writes what happens to the caller; with `keep` it also keeps the chunks."""

    def __init__(self, context: grpc.aio.ServicerContext, *, keep: bool) -> None:
        self._context = context
        self._keep = keep
        self._writing = asyncio.Lock()
        self._last_progress = Progress()
        self._progress_at = 0.0
        self.chunks: list[ChunkResult] = []

    async def opened(self, claimed_duration_seconds: float, model: ModelInfo, text_bank: TextBankInfo) -> None:
        self.chunks.clear()

    async def progress(self, progress: Progress) -> None:
        """Passed on if a new stage has begun or some time has passed."""
        now = time.monotonic()
        if progress.stage == self._last_progress.stage and now < self._progress_at + _SECONDS_BETWEEN_PROGRESS:
            return
        self._last_progress, self._progress_at = progress, now
        await self._write(StreamAnalyzeVideoResponse(progress=progress))

    async def chunk(self, result: ChunkResult, finished_scenes: Sequence[Scene], resume_token: bytes) -> None:
        if self._keep:
            self.chunks.append(result)
        await self._write(
            StreamAnalyzeVideoResponse(chunk=result, finished_scenes=finished_scenes, resume_token=resume_token)
        )

    async def _write(self, response: StreamAnalyzeVideoResponse) -> None:
        # gRPC takes one message at a time, and a download goes on while we tell that there is no encoder yet.
        async with self._writing:
            await self._context.write(response)
