"""The numbers that services are scaled by, through everything that can become of a request."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.encoder.engine import Encoded
from services.ingress.admission.demand import Demand
from tests.ingress.waiting import until
from tests.rendering import calm_picture, render, steady
from tests.system import Engine, System, encoder, system
from videoanalysis.storage import S3Uri, Storage, StoredObject
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest, StreamAnalyzeVideoRequest

# What is counted, and until when


def depths(demand: Demand) -> tuple[int, int, int]:
    return demand.ingress, demand.encoder, demand.decoder


def test_the_demand_is_zero_at_first():
    assert depths(Demand()) == (0, 0, 0)


def test_a_request_counts_until_it_ends():
    demand = Demand()
    with demand.request(), demand.request():
        assert depths(demand) == (2, 0, 0)
    assert depths(demand) == (0, 0, 0)


def test_a_video_counts_for_the_encoders_until_its_first_chunk_does():
    demand = Demand()
    with demand.video() as video:
        assert demand.encoder == 1
        with video.chunk():
            assert demand.encoder == 1
            with video.chunk():
                assert demand.encoder == 2
            assert demand.encoder == 1
        assert demand.encoder == 0
        with video.chunk():
            assert demand.encoder == 1
    assert demand.encoder == 0


def test_a_video_that_restarts_waits_for_its_first_chunk_again():
    demand = Demand()
    with demand.video() as video:
        with video.chunk():
            pass
        video.begin()
        assert demand.encoder == 1
        video.begin()
        assert demand.encoder == 1
        with video.chunk():
            assert demand.encoder == 1
    assert demand.encoder == 0


def test_texts_and_decoder_calls_count_while_they_last():
    demand = Demand()
    with demand.texts(), demand.decoder_call(), demand.decoder_call():
        assert depths(demand) == (0, 1, 2)
    assert depths(demand) == (0, 0, 0)


def test_a_draining_ingress_is_demand_for_encoders_and_decoders_only():
    demand = Demand()
    with demand.request(), demand.video(), demand.decoder_call():
        demand.drain()
        assert depths(demand) == (0, 1, 1)
        with demand.request():
            assert demand.ingress == 0


def test_no_count_is_left_however_the_work_ends():
    demand = Demand()
    for error in (ValueError, asyncio.CancelledError, GeneratorExit):
        with pytest.raises(error), demand.request(), demand.video(), demand.texts(), demand.decoder_call():
            raise error
        with pytest.raises(error), demand.video() as video, video.chunk(), video.chunk():
            raise error
        assert depths(demand) == (0, 0, 0)


# A system in which everything can be held up, and a model of it

MAX_VIDEOS, MAX_WAITING, CHUNKS = 2, 2, 3
GATES = ["download", "texts", "encode", "decode"]


class FailingEngine(Engine):
    """Fails for the chunks that the test chooses."""

    to_lose = 0

    def encode(self, frames: np.ndarray) -> Encoded:
        encoded = super().encode(frames)
        if self.to_lose:
            self.to_lose -= 1
            raise RuntimeError("lost")
        return encoded


class HeldStorage(Storage):
    """Holds one video under every name."""

    def __init__(self, clip: bytes) -> None:
        super().__init__(None, 1, 1.0)
        self._clip = clip
        self.opened = asyncio.Event()
        self.opened.set()

    async def stat(self, uri: S3Uri) -> StoredObject:
        return StoredObject(uri, len(self._clip), "etag")

    async def blocks(self, source: StoredObject, start: int, end: int) -> AsyncGenerator[bytes, None]:
        await self.opened.wait()
        yield self._clip[start:end]


class Gate(grpc.aio.ServerInterceptor):
    """Blocks the calls of one method while it is closed, and fails those that the test chooses."""

    def __init__(self, method: str) -> None:
        self._method = method
        self.opened = asyncio.Event()
        self.opened.set()
        self.to_lose = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        if details.method.endswith(self._method):
            await self.opened.wait()
            if self.to_lose:
                self.to_lose -= 1
                return grpc.unary_unary_rpc_method_handler(_lose)
        return await continuation(details)


async def _lose(request: bytes, context: grpc.aio.ServicerContext) -> None:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "lost")


@dataclass
class Video:
    """One call, as the model sees it: what it waits for, and what it has behind it."""

    stored: bool = False
    labelled: bool = False
    broken: bool = False
    streamed: bool = False
    has_turn: bool = False
    downloaded: bool = False
    embedded: bool = False
    encoded: bool = False


@dataclass
class Model:
    """An independent model of the system: videos that pass gates, of which some are closed."""

    videos: list[Video] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)

    def admits(self) -> bool:
        return len(self.videos) < MAX_VIDEOS + MAX_WAITING

    def settle(self) -> None:
        """Every video goes as far as it can; those that are over make place for the next."""
        while True:
            for video in self.videos[:MAX_VIDEOS]:
                video.has_turn = True
            still_there = [video for video in self.videos if not self._is_over(video)]
            if len(still_there) == len(self.videos):
                return
            self.videos = still_there

    def _is_over(self, video: Video) -> bool:
        if not video.has_turn:
            return False
        video.downloaded |= not video.stored or "download" not in self.closed
        video.embedded |= not video.labelled or "texts" not in self.closed
        if not (video.downloaded and video.embedded):
            return False
        if video.broken:
            return True
        video.encoded |= "encode" not in self.closed
        return video.encoded and "decode" not in self.closed

    def depths(self) -> tuple[int, int, int]:
        encoder = decoder = 0
        for video in self.videos:
            if not video.has_turn:
                continue
            if not (video.downloaded and video.embedded):
                encoder += 1 + (not video.embedded)
            elif not video.encoded:
                encoder += CHUNKS
            else:
                decoder += 1
        return len(self.videos), encoder, decoder


class Bench:
    """The system, the model, and which call of the one is which video of the other."""

    def __init__(
        self,
        running: System,
        directory: Path,
        engines: list[FailingEngine],
        storage: HeldStorage,
        gates: dict[str, Gate],
        stack: AsyncExitStack,
    ) -> None:
        self.system = running
        self._directory = directory
        self._engines = engines
        self._storage = storage
        self._gates = gates
        self._stack = stack
        self._labels = itertools.count()
        self._model = Model()
        self._calls: list[tuple[Video, asyncio.Task[grpc.StatusCode]]] = []

    # What a schedule is made of

    async def start(self, video: Video) -> None:
        video = replace(video)
        # So late that no wait is too long for it, however long others are held up.
        call = self._call(video, seconds=3000)
        if not self._model.admits():
            assert await call == grpc.StatusCode.RESOURCE_EXHAUSTED
            return
        self._model.videos.append(video)
        self._calls.append((video, call))

    async def start_too_late(self, video: Video) -> None:
        await self._call(video, seconds=0.3)

    async def cancel(self, index: int) -> None:
        if index < len(self._calls):
            video, call = self._calls.pop(index)
            self._model.videos = [other for other in self._model.videos if other is not video]
            call.cancel()
            await asyncio.wait([call])

    async def shut(self, gate: str) -> None:
        self._model.closed.add(gate)
        for event in self._events(gate):
            event.clear()

    async def open(self, gate: str) -> None:
        self._model.closed.discard(gate)
        for event in self._events(gate):
            event.set()

    async def lose(self, gate: str) -> None:
        """One of those that come next through this gate, which is then done again."""
        (self._engines[0] if gate == "encode" else self._gates[gate]).to_lose = 1

    async def crash(self) -> None:
        """One of two encoders, with what it has in hand; it comes back at once."""
        crashed = self.system.encoders[0]
        await crashed.server.stop(None)
        again = encoder(self._engines[0], crashed.address, list(self._gates.values()))
        self.system.encoders[0] = await self._stack.enter_async_context(again)

    # What must then be

    async def check(self) -> None:
        """Wait until the system has done what the model says, and see that it stays there."""
        self._model.settle()
        ended = [
            (video, call) for video, call in self._calls if all(video is not other for other in self._model.videos)
        ]
        self._calls = [(video, call) for video, call in self._calls if all(video is not other for other, _ in ended)]
        for video, call in ended:
            assert await asyncio.wait_for(call, 30) == (
                grpc.StatusCode.INVALID_ARGUMENT if video.broken else grpc.StatusCode.OK
            )
        expected, steady_for = self._model.depths(), 0
        for _ in range(4000):
            steady_for = steady_for + 1 if depths(self.system.demand) == expected else 0
            if steady_for == 10:
                return
            await asyncio.sleep(0.005)
        assert depths(self.system.demand) == expected

    async def come_to_rest(self) -> None:
        for gate in GATES:
            await self.open(gate)
        await self.check()
        assert depths(self.system.demand) == (0, 0, 0)
        await until(self.system.is_at_rest)
        for holder in (*self._engines, *self._gates.values()):
            holder.to_lose = 0

    async def watch(self) -> None:
        """At every moment, also between the steps: one request counted for each that arrives, waits or holds a slot."""
        demand, admission = self.system.demand, self.system.admission
        while True:
            assert demand.ingress == admission.arriving + admission.waiting + admission.running
            assert min(depths(demand)) >= 0
            await asyncio.sleep(0.001)

    def _events(self, gate: str) -> list[Any]:
        if gate == "encode":
            return [engine.release for engine in self._engines]
        return [self._storage.opened if gate == "download" else self._gates[gate].opened]

    def _call(self, video: Video, seconds: float) -> asyncio.Task[grpc.StatusCode]:
        name = "broken.mp4" if video.broken else "clip.mp4"
        request = AnalyzeVideoRequest(
            video_uri="s3://held/clip.mp4" if video.stored else f"file://{self._directory / name}",
            frames_per_chunk=2,
            chunk_duration_seconds=1,
            # New ones each time: those that were embedded once are remembered.
            labels=[f"label {next(self._labels)}"] if video.labelled else [],
        )
        return asyncio.create_task(self._outcome(request, seconds, video.streamed))

    async def _outcome(self, request: AnalyzeVideoRequest, seconds: float, streamed: bool) -> grpc.StatusCode:
        stub = self.system.stub
        try:
            if streamed:
                async for _ in stub.StreamAnalyzeVideo(StreamAnalyzeVideoRequest(analysis=request), timeout=seconds):
                    pass
            else:
                await stub.AnalyzeVideo(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK


@asynccontextmanager
async def started(directory: Path) -> AsyncIterator[Bench]:
    clip = render(directory / "clip.mp4", steady(8, CHUNKS), draw=calm_picture)
    (directory / "broken.mp4").write_bytes(b"no video at all")
    engines = [FailingEngine(), FailingEngine()]
    gates = {"texts": Gate("EncodeTexts"), "decode": Gate("DecodeChunk")}
    storage = HeldStorage(clip.read_bytes())
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(
            system(
                directory,
                engines,
                storage=storage,
                interceptors=list(gates.values()),
                max_videos=MAX_VIDEOS,
                max_waiting=MAX_WAITING,
            )
        )
        yield Bench(running, directory, engines, storage, gates, stack)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Bench]]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        yield runner, runner.run(stack.enter_async_context(started(tmp_path_factory.mktemp("demand"))))
        runner.run(stack.aclose())


# Random schedules

VIDEOS = st.builds(Video, stored=st.booleans(), labelled=st.booleans(), streamed=st.booleans()) | st.just(
    Video(broken=True)
)
STEPS = st.one_of(
    st.tuples(st.just("start"), VIDEOS),
    st.tuples(st.just("start"), VIDEOS),
    st.tuples(st.just("start_too_late"), VIDEOS),
    st.tuples(st.just("cancel"), st.integers(0, MAX_VIDEOS + MAX_WAITING - 1)),
    st.tuples(st.sampled_from(["shut", "open"]), st.sampled_from(GATES)),
    st.tuples(st.just("lose"), st.sampled_from(["encode", "texts", "decode"])),
    st.just(("crash",)),
)
EVERYTHING = [
    *(("shut", gate) for gate in GATES),
    ("start", Video(stored=True, labelled=True)),
    ("start", Video()),
    ("start", Video(streamed=True)),
    ("start", Video(broken=True)),
    ("start", Video()),
    ("start_too_late", Video()),
    ("open", "download"),
    ("crash",),
    ("cancel", 2),
    ("lose", "texts"),
    ("open", "texts"),
    ("lose", "encode"),
    ("open", "encode"),
    ("lose", "decode"),
    ("start_too_late", Video(streamed=True)),
    ("cancel", 0),
]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schedule=st.lists(STEPS, min_size=4, max_size=8))
@example(schedule=EVERYTHING)
def test_the_gauges_agree_with_the_model_after_every_step_and_are_zero_at_the_end(bench, schedule):
    runner, running = bench

    async def play() -> None:
        watching = asyncio.create_task(running.watch())
        try:
            for action, *arguments in schedule:
                await getattr(running, action)(*arguments)
                await running.check()
        finally:
            await running.come_to_rest()
            watching.cancel()
            await asyncio.wait([watching])
        assert watching.cancelled(), watching.exception()

    runner.run(play())
