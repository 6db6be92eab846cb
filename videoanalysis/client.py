"""One call that analyses a video: progress on the way, the whole answer at the end."""

from collections.abc import Callable

import grpc

from videoanalysis import channels
from videoanalysis.errors import Unavailable, from_rpc_error
from videoanalysis.v1.analysis_pb2 import (
    AnalyzeVideoRequest,
    AnalyzeVideoResponse,
    ChunkResult,
    Progress,
    StreamAnalyzeVideoRequest,
)
from videoanalysis.v1.analysis_pb2_grpc import VideoAnalysisServiceStub

# As long as a service works on one request unless its operator says otherwise.
TIMEOUT_SECONDS = 3600.0
# The summary of a day of short scenes is over gRPC's 4 MiB.
_MAX_ANSWER_BYTES = 64 << 20


async def analyze(
    service: str | grpc.aio.Channel,
    request: AnalyzeVideoRequest,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> AnalyzeVideoResponse:
    """Analyse a video by the service at host:port or behind a channel, which stays open.

    Of any length: the chunks come one by one. Raises ServiceError. Leaving by cancellation ends the work there too.
    """
    if isinstance(service, str):
        limit = [("grpc.max_receive_message_length", _MAX_ANSWER_BYTES)]
        async with grpc.aio.insecure_channel(service, options=[*channels.OPTIONS, *limit]) as channel:
            return await _analyze(channel, request, on_progress, timeout_seconds)
    return await _analyze(service, request, on_progress, timeout_seconds)


async def _analyze(
    channel: grpc.aio.Channel,
    request: AnalyzeVideoRequest,
    on_progress: Callable[[Progress], None],
    timeout_seconds: float,
) -> AnalyzeVideoResponse:
    stub = VideoAnalysisServiceStub(channel)  # type: ignore[no-untyped-call]
    call = stub.StreamAnalyzeVideo(StreamAnalyzeVideoRequest(analysis=request), timeout=timeout_seconds)
    chunks: list[ChunkResult] = []
    try:
        async for response in call:
            match response.WhichOneof("event"):
                case "progress":
                    on_progress(response.progress)
                case "chunk":
                    if response.chunk.chunk_index == 0:
                        # The video was started anew on another model: what came before is of the old one.
                        chunks.clear()
                    chunks.append(response.chunk)
                case "summary":
                    answer: AnalyzeVideoResponse = response.summary
                    answer.chunks.extend(chunks)
                    return answer
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    finally:
        call.cancel()
    raise Unavailable("the service ended the call without a summary", reason="INCOMPLETE_ANSWER")
