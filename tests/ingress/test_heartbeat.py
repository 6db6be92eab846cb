"""A stream keeps sending in every stage, however long the stage takes, so that no gateway closes it for being idle."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest

from services.ingress.settings import IngressSettings
from tests.ingress.waiting import until
from tests.rendering import render, steady
from tests.system import Engine, System, system
from videoanalysis.storage import S3Uri, Storage, StoredObject
from videoanalysis.v1.analysis_pb2 import (
    STAGE_ANALYZING,
    STAGE_DOWNLOADING,
    STAGE_WAITING,
    AnalyzeVideoRequest,
    AnalyzeVideoResponse,
    RedecodeHeader,
    RedecodeVideoRequest,
    Stage,
    StreamAnalyzeVideoRequest,
)

HEARTBEAT_SECONDS = 0.1
LARGEST_GAP_SECONDS = 10  # of a slow machine; a stream without heartbeats is silent until it is released
HEARTBEATS = 5
MOVIE_AT = "s3://videos/movie.mp4"


class HeldStorage(Storage):
    """One movie, whose transfers wait at the gates that are closed."""

    def __init__(self, movie: bytes) -> None:
        super().__init__(None, 1, 1.0)
        self._movie = movie
        self.gates = {gate: asyncio.Event() for gate in ("stat", "first bytes", "last bytes", "output")}
        for gate in self.gates.values():
            gate.set()

    async def stat(self, uri: S3Uri) -> StoredObject:
        await self.gates["stat"].wait()
        return StoredObject(uri, len(self._movie), "etag")

    async def blocks(self, source: StoredObject, start: int, end: int) -> AsyncGenerator[bytes, None]:
        await self.gates["first bytes"].wait()
        half = (start + end) // 2
        yield self._movie[start:half]
        await self.gates["last bytes"].wait()
        yield self._movie[half:end]

    @asynccontextmanager
    async def upload(self, uri: S3Uri, content_type: str) -> AsyncIterator["HeldUpload"]:
        yield HeldUpload(self.gates["output"])


class HeldUpload:
    def __init__(self, gate: asyncio.Event) -> None:
        self._gate = gate

    async def restart(self) -> None:
        pass

    async def write(self, data: bytes) -> None:
        pass

    async def complete(self) -> None:
        await self._gate.wait()


class HeldDecoder(grpc.aio.ServerInterceptor):
    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        if details.method.endswith("DecodeChunk"):
            await self.gate.wait()
        return await continuation(details)


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return render(tmp_path_factory.mktemp("movie") / "movie.mp4", steady(10, 3)).read_bytes()


def request(**options: object) -> AnalyzeVideoRequest:
    return AnalyzeVideoRequest(video_uri=MOVIE_AT, frames_per_chunk=4, **options)


def stream(running: System, **options: object) -> grpc.aio.UnaryStreamCall:
    return running.stub.StreamAnalyzeVideo(StreamAnalyzeVideoRequest(analysis=request(**options)), timeout=60)


async def progress_received(call: grpc.aio.UnaryStreamCall, stage: Stage.ValueType, count: int = HEARTBEATS) -> None:
    """Returns after `count` more progress messages of `stage`, none of which was long in coming."""
    while count:
        event = await asyncio.wait_for(call.read(), LARGEST_GAP_SECONDS)
        assert event.WhichOneof("event") in ("progress", "accepted", "chunk")
        count -= event.WhichOneof("event") == "progress" and event.progress.stage == stage


async def summary(call: grpc.aio.UnaryStreamCall) -> AnalyzeVideoResponse:
    while (event := await asyncio.wait_for(call.read(), LARGEST_GAP_SECONDS)) is not grpc.aio.EOF:
        last = event
    assert last.WhichOneof("event") == "summary"
    return last.summary


@pytest.mark.parametrize(
    ("held", "stage"),
    [
        ("stat", STAGE_WAITING),
        ("first bytes", STAGE_DOWNLOADING),
        ("last bytes", STAGE_DOWNLOADING),
        ("encoder", STAGE_DOWNLOADING),
        ("decoder", STAGE_DOWNLOADING),
        ("output", STAGE_ANALYZING),
    ],
)
async def test_progress_is_repeated_while_a_stage_stands_still(
    held: str, stage: Stage.ValueType, movie, tmp_path: Path
):
    storage, engine, decoder = HeldStorage(movie), Engine(), HeldDecoder()
    async with system(
        tmp_path,
        [engine],
        storage=storage,
        interceptors=[decoder],
        heartbeat_seconds=HEARTBEAT_SECONDS,
        allowed_output_prefixes=["s3://answers"],
    ) as running:
        gate = {**storage.gates, "encoder": engine.release, "decoder": decoder.gate}[held]
        gate.clear()
        call = stream(running, output_uri="s3://answers/answer.json")
        await progress_received(call, stage)
        gate.set()
        assert (await summary(call)).video_duration_seconds == pytest.approx(3)


async def test_bytes_are_reported_as_they_arrive_until_the_first_chunk_and_with_those_after_it(movie, tmp_path: Path):
    storage = HeldStorage(movie)
    async with system(tmp_path, storage=storage) as running:
        storage.gates["last bytes"].clear()
        call = stream(running)
        progress = []
        while not progress or progress[-1].downloaded_bytes == 0:
            event = await asyncio.wait_for(call.read(), LARGEST_GAP_SECONDS)
            progress.append(event.progress)
        assert progress[-1].stage == STAGE_DOWNLOADING
        assert (progress[-1].downloaded_bytes, progress[-1].total_bytes) == (len(movie) // 2, len(movie))
        storage.gates["last bytes"].set()
        while (event := await asyncio.wait_for(call.read(), LARGEST_GAP_SECONDS)).WhichOneof("event") != "chunk":
            assert event.progress.stage == STAGE_DOWNLOADING
        last = (await call.read()).progress
        assert (last.stage, last.downloaded_bytes, last.total_bytes) == (STAGE_ANALYZING, len(movie), len(movie))
        await summary(call)


async def test_progress_is_repeated_in_the_queue_and_its_estimate_goes_down(movie, tmp_path: Path):
    storage = HeldStorage(movie)
    async with (
        AsyncExitStack() as slots,
        system(tmp_path, storage=storage, max_videos=1, heartbeat_seconds=HEARTBEAT_SECONDS) as running,
    ):
        await summary(stream(running))  # from which the time of a video is known
        storage.gates["stat"].clear()
        slots.callback(storage.gates["stat"].set)
        first, second = stream(running), stream(running)
        await progress_received(first, STAGE_WAITING, 1)
        estimates = []
        for _ in range(HEARTBEATS):
            event = await asyncio.wait_for(second.read(), LARGEST_GAP_SECONDS)
            assert event.progress.stage == STAGE_WAITING
            estimates.append(event.progress.estimated_wait_seconds)
        assert estimates == sorted(estimates, reverse=True)
        assert estimates[-1] < estimates[0] or estimates[0] == 0
        storage.gates["stat"].set()
        await asyncio.gather(summary(first), summary(second))


async def test_stored_embeddings_that_wait_for_a_decoder_have_progress_too(movie, tmp_path: Path):
    decoder = HeldDecoder()
    async with system(
        tmp_path, storage=HeldStorage(movie), interceptors=[decoder], heartbeat_seconds=HEARTBEAT_SECONDS
    ) as running:
        stored = await running.stub.AnalyzeVideo(request(include_embeddings=True), timeout=60)
        decoder.gate.clear()

        async def requests() -> AsyncIterator[RedecodeVideoRequest]:
            yield RedecodeVideoRequest(header=RedecodeHeader(model=stored.model))
            for chunk in stored.chunks:
                yield RedecodeVideoRequest(chunk=chunk)

        call = running.stub.RedecodeVideo(requests(), timeout=60)
        await progress_received(call, STAGE_WAITING)
        decoder.gate.set()
        assert (await summary(call)).video_duration_seconds == pytest.approx(3)


async def test_a_stream_whose_caller_leaves_stops_repeating(movie, tmp_path: Path):
    storage = HeldStorage(movie)
    storage.gates["stat"].clear()
    async with system(tmp_path, storage=storage, heartbeat_seconds=HEARTBEAT_SECONDS) as running:
        call = stream(running)
        await progress_received(call, STAGE_WAITING, 2)
        call.cancel()
        await until(running.is_at_rest, LARGEST_GAP_SECONDS)


def test_gateways_that_close_a_stream_after_sixty_silent_seconds_see_progress_every_fifteen():
    chosen = IngressSettings.model_fields["heartbeat_seconds"]
    assert chosen.default <= 15
    assert any(getattr(limit, "le", None) == 15 for limit in chosen.metadata)
