import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import pytest

from videoanalysis import client
from videoanalysis.channels import connect
from videoanalysis.errors import DeadlineExceeded, InvalidInput, Unavailable, status_code, trailing_metadata
from videoanalysis.v1 import analysis_pb2_grpc
from videoanalysis.v1.analysis_pb2 import (
    STAGE_ANALYZING,
    STAGE_WAITING,
    AnalyzeVideoRequest,
    AnalyzeVideoResponse,
    ChunkResult,
    Progress,
    StreamAnalyzeVideoResponse,
)
from videoanalysis.v1.decoder_pb2 import SceneChange

REQUEST = AnalyzeVideoRequest(video_uri="s3://bucket/clip.mp4", top_k_tags=3)


class Service(analysis_pb2_grpc.VideoAnalysisServiceServicer):
    """Answers with `events`, then as `ending` says: at once, with an error, or never."""

    def __init__(self, events: Sequence[StreamAnalyzeVideoResponse] = (), ending: Exception | None = None) -> None:
        self.events = events
        self.ending = ending
        self.hangs = False
        self.request: AnalyzeVideoRequest | None = None
        self.called = asyncio.Event()
        self.left = asyncio.Event()

    async def StreamAnalyzeVideo(self, request, context):
        self.request = request.analysis
        self.called.set()
        try:
            for event in self.events:
                yield event
            if self.hangs:
                await asyncio.Event().wait()
        finally:
            self.left.set()
        if self.ending is not None:
            await context.abort(status_code(self.ending), str(self.ending), trailing_metadata(self.ending))


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[str]:
    server = grpc.aio.server()
    analysis_pb2_grpc.add_VideoAnalysisServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def progress(stage) -> StreamAnalyzeVideoResponse:
    return StreamAnalyzeVideoResponse(progress=Progress(stage=stage))


def chunk(index: int, start: float) -> StreamAnalyzeVideoResponse:
    cut = SceneChange(timestamp_seconds=start + 1, chunk_index=index)
    return StreamAnalyzeVideoResponse(
        chunk=ChunkResult(chunk_index=index, start_seconds=start, duration_seconds=10, scene_changes=[cut])
    )


def summary(**fields: object) -> StreamAnalyzeVideoResponse:
    return StreamAnalyzeVideoResponse(summary=AnalyzeVideoResponse(**fields))


async def test_the_answer_is_the_summary_with_the_chunks_put_back():
    cuts = [SceneChange(timestamp_seconds=1), SceneChange(timestamp_seconds=11, chunk_index=1)]
    service = Service([chunk(0, 0), chunk(1, 10), summary(stream_id="mine", scene_changes=cuts)])
    async with serving(service) as address:
        answer = await client.analyze(address, REQUEST)
    assert service.request == REQUEST
    assert answer.stream_id == "mine"
    assert [found.timestamp_seconds for found in answer.scene_changes] == [1, 11]
    assert [(found.chunk_index, found.start_seconds) for found in answer.chunks] == [(0, 0), (1, 10)]
    assert [found.scene_changes[0].timestamp_seconds for found in answer.chunks] == [1, 11]


async def test_what_came_before_a_new_start_on_another_model_is_forgotten():
    service = Service([chunk(0, 0), chunk(1, 10), chunk(0, 0.5), chunk(1, 10.5), summary()])
    async with serving(service) as address:
        answer = await client.analyze(address, REQUEST)
    assert [found.start_seconds for found in answer.chunks] == [0.5, 10.5]


async def test_progress_is_heard_in_order():
    heard = []
    service = Service([progress(STAGE_WAITING), progress(STAGE_ANALYZING), chunk(0, 0), summary()])
    async with serving(service) as address:
        await client.analyze(address, REQUEST, on_progress=lambda news: heard.append(news.stage))
    assert heard == [STAGE_WAITING, STAGE_ANALYZING]


async def test_a_channel_of_the_caller_stays_open():
    async with serving(Service([summary(stream_id="again")])) as address, connect(address) as channel:
        for _ in range(2):
            assert (await client.analyze(channel, REQUEST)).stream_id == "again"


async def test_an_answer_over_four_mebibytes_arrives():
    many = [SceneChange(timestamp_seconds=second + 0.5, score=1) for second in range(300_000)]
    service = Service([summary(scene_changes=many)])
    assert service.events[0].ByteSize() > 4 << 20
    async with serving(service) as address:
        assert len((await client.analyze(address, REQUEST)).scene_changes) == len(many)


async def test_the_services_error_is_raised_as_it_was_there():
    service = Service(
        [progress(STAGE_WAITING)], InvalidInput("no video in it", reason="NOT_A_VIDEO", field="video_uri")
    )
    async with serving(service) as address:
        with pytest.raises(InvalidInput, match="no video in it") as caught:
            await client.analyze(address, REQUEST)
    assert (caught.value.reason, caught.value.field) == ("NOT_A_VIDEO", "video_uri")


async def test_an_answer_without_a_summary_is_no_answer():
    async with serving(Service([chunk(0, 0)])) as address:
        with pytest.raises(Unavailable) as caught:
            await client.analyze(address, REQUEST)
    assert caught.value.reason == "INCOMPLETE_ANSWER"


async def test_a_service_that_is_away_is_unavailable():
    with pytest.raises(Unavailable):
        await client.analyze("127.0.0.1:9", REQUEST)


async def test_the_time_limit_ends_the_call():
    service = Service()
    service.hangs = True
    async with serving(service) as address:
        with pytest.raises(DeadlineExceeded):
            await client.analyze(address, REQUEST, timeout_seconds=0.2)


async def test_a_caller_that_is_cancelled_leaves_the_service():
    service = Service([progress(STAGE_WAITING)])
    service.hangs = True
    async with serving(service) as address:
        waiting = asyncio.create_task(client.analyze(address, REQUEST))
        await asyncio.wait_for(service.called.wait(), 10)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        await asyncio.wait_for(service.left.wait(), 10)


def test_needs_nothing_of_the_services():
    heavy = {"torch", "av", "moto", "aioboto3", "transformers", "numpy", "structlog", "pydantic"}
    program = f"import sys, videoanalysis.client; print(sorted({heavy} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout.strip() == "[]"
