"""VideoAnalysisService in this process, with fixed answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from videoanalysis.calls import CallInterceptor
from videoanalysis.errors import Overloaded
from videoanalysis.v1.analysis_pb2 import (
    AnalyzeVideoResponse,
    ChunkResult,
    StageTiming,
    StreamAnalyzeVideoResponse,
    Timing,
    Usage,
)
from videoanalysis.v1.analysis_pb2_grpc import VideoAnalysisServiceServicer, add_VideoAnalysisServiceServicer_to_server


class FakeService(VideoAnalysisServiceServicer):
    """Takes `seconds` for each call; refuses while it `is_full`."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.is_full = False
        self.forgets_summary = False
        self.calls = 0
        self._called = asyncio.Condition()
        self.peers: set[str] = set()
        self.metadata: dict[str, str] = {}
        self.address = ""
        self.server: grpc.aio.Server | None = None

    async def until_called(self, times: int) -> None:
        async with asyncio.timeout(30), self._called:
            await self._called.wait_for(lambda: self.calls >= times)

    async def AnalyzeVideo(self, request, context):
        await self._begin(context)
        answer = summary(request.stream_id)
        answer.chunks.extend(chunks())
        return answer

    async def StreamAnalyzeVideo(self, request, context):
        await self._begin(context)
        for chunk in chunks():
            yield StreamAnalyzeVideoResponse(chunk=chunk)
        await asyncio.sleep(self.seconds)
        if not self.forgets_summary:
            yield StreamAnalyzeVideoResponse(summary=summary(request.analysis.stream_id))

    async def _begin(self, context) -> None:
        async with self._called:
            self.calls += 1
            self._called.notify_all()
        self.peers.add(context.peer())
        self.metadata = dict(context.invocation_metadata())
        if self.is_full:
            raise Overloaded("256 requests are waiting", retry_after_seconds=0.01)
        await asyncio.sleep(self.seconds)


def chunks() -> list[ChunkResult]:
    return [ChunkResult(chunk_index=index, start_seconds=10 * index, duration_seconds=10) for index in range(2)]


def summary(stream_id: str) -> AnalyzeVideoResponse:
    return AnalyzeVideoResponse(
        stream_id=stream_id,
        video_duration_seconds=20,
        usage=Usage(bytes_read=5000, frames_decoded=300, accelerator_seconds=0.25),
        timing=Timing(
            download=StageTiming(queue_seconds=0.001, compute_seconds=0.002),
            encode=StageTiming(queue_seconds=0.003, compute_seconds=0.004),
            unattributed_seconds=0.0005,
            total_seconds=0.0105,
        ),
    )


@asynccontextmanager
async def serving(service: FakeService) -> AsyncIterator[FakeService]:
    service.server = grpc.aio.server(interceptors=[CallInterceptor()])
    add_VideoAnalysisServiceServicer_to_server(service, service.server)
    port = service.server.add_insecure_port("127.0.0.1:0")
    service.address = f"127.0.0.1:{port}"
    await service.server.start()
    try:
        yield service
    finally:
        await service.server.stop(None)
