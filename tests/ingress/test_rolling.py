"""Encoders that come, drain and go while work goes on: real servers, real channels."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from services.encoder.engine import Model
from services.ingress.admission import ByteBudget, Deadline, Share
from services.ingress.dispatch.discovery.endpoint_slices import EndpointSlices
from services.ingress.dispatch.discovery.location import KubernetesService
from services.ingress.dispatch.encoders import Encoders
from services.ingress.dispatch.replicas import Replicas
from services.ingress.sampling import FrameBuffer
from tests.ingress.dispatch.discovery.api_server import POD, api_server, endpoint_slice
from tests.ingress.waiting import until
from tests.rendering import calm_picture, render, steady
from tests.system import IMAGE_SIZE, Engine, Replica, System, encoder, system
from videoanalysis.channels import connect
from videoanalysis.text_bank import builder as bank_builder
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest, AnalyzeVideoResponse

FRAMES = 2
SHARE = Share("a caller", 1)
SECONDS = 6
ADDED_SECONDS = 2.0
TERMINATING = POD | {"ready": False, "terminating": True}


def in_slice(name: str, replica: Replica, **conditions: object) -> dict:
    return endpoint_slice(name, "127.0.0.1", port=int(replica.address.rpartition(":")[2]), **conditions)


@asynccontextmanager
async def load(encoders: Encoders, model: Model, callers: int = 6) -> AsyncIterator[None]:
    """Chunks, one after another from each of `callers`, while it is entered; leaving raises what a call has raised."""
    over = asyncio.Event()
    budget = ByteBudget(1 << 20)

    async def caller() -> None:
        frames = await FrameBuffer.allocate(FRAMES * IMAGE_SIZE**2 * 3, budget)
        try:
            while not over.is_set():
                await encoders.encode(frames, FRAMES, "chunk", model, Deadline.after(30), SHARE)
        finally:
            frames.close()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(callers):
            tasks.create_task(caller())
        try:
            yield
        finally:
            over.set()


async def has_no_more_work(engine: Engine) -> bool:
    """Whether, what it had being finished, nothing new comes to it."""
    await asyncio.sleep(0.2)
    before = engine.chunks
    await asyncio.sleep(0.5)
    return engine.chunks == before


async def test_an_encoder_that_is_ready_gets_work_within_2_s_and_one_that_terminates_none_and_no_call_fails():
    engines = [Engine(service_ms=10) for _ in range(2)]
    model = engines[0].model
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(api_server())
        first, second = [await stack.enter_async_context(encoder(engine)) for engine in engines]
        discovery = EndpointSlices(KubernetesService("videos", "encoder", "grpc"), server.configuration)
        pool = Replicas("encoder", discovery, attempt_seconds=10, wait_seconds=10)
        encoders = Encoders(await stack.enter_async_context(pool), IMAGE_SIZE)

        await server.put(in_slice("a", first))
        async with load(encoders, model):
            await until(lambda: engines[0].chunks > 5)
            await server.put(in_slice("b", second, conditions=POD | {"ready": False}))
            assert await has_no_more_work(engines[1])
            assert engines[1].chunks == 0
            await server.put(in_slice("b", second))
            await until(lambda: engines[1].chunks > 0, ADDED_SECONDS)
            await server.put(in_slice("a", first, conditions=TERMINATING))
            assert await has_no_more_work(engines[0])
            await first.server.stop(0)
            await server.delete("a")
            served = engines[1].chunks
            await until(lambda: engines[1].chunks > served + 5)


async def test_an_encoder_that_drains_gets_no_more_work_though_it_stays_listed_and_no_video_fails(tmp_path: Path):
    render(tmp_path / "clip.mp4", steady(10, SECONDS), draw=calm_picture)
    request = AnalyzeVideoRequest(video_uri=f"file://{tmp_path}/clip.mp4", chunk_duration_seconds=1)
    engines = [Engine(), Engine()]
    async with system(tmp_path, engines) as running:
        for engine in engines:
            engine.release.clear()
        in_progress = running.stub.AnalyzeVideo(request, timeout=60)
        await until(lambda: all(engine.started.is_set() for engine in engines))
        await running.encoders[0].set_ready(False)
        await asyncio.sleep(0.05)
        for engine in engines:
            engine.release.set()
        assert len((await in_progress).chunks) == SECONDS
        finished = engines[0].chunks
        assert finished > 0

        for _ in range(3):
            assert len((await running.stub.AnalyzeVideo(request, timeout=60)).chunks) == SECONDS
        assert engines[0].chunks == finished
        assert engines[1].chunks == 4 * SECONDS - finished

        await running.encoders[0].set_ready(True)
        for _ in range(3):
            await running.stub.AnalyzeVideo(request, timeout=60)
        assert engines[0].chunks > finished


# Text banks that are replaced


Analyze = Callable[[], Awaitable[AnalyzeVideoResponse]]
OLD, NEW = (["red", "green"], ["something red"]), (["one", "two", "three"], ["a number"])


async def put_bank(running: System, directory: Path, texts: tuple[list[str], list[str]]) -> None:
    source = directory / texts[0][0]
    source.mkdir(exist_ok=True)
    for name, lines in zip(("tags.txt", "descriptions.txt"), texts, strict=True):
        (source / name).write_text("\n".join(lines))
    async with connect(running.encoders[0].address) as channel:
        bank = await bank_builder.build(source, name="default", encoder=channel)
    (directory / "banks" / "default.safetensors").write_bytes(bank.to_bytes())
    await running.text_banks.refresh()


def words(answer: AnalyzeVideoResponse) -> set[str]:
    return {tag.text for part in [answer, *answer.chunks, *answer.scenes] for tag in part.tags}


@asynccontextmanager
async def first_chunk_held_up(directory: Path) -> AsyncIterator[tuple[System, Analyze]]:
    """A system with the old bank, in the middle of a video, and how to let that go on, or to analyse it once more."""
    render(directory / "clip.mp4", steady(10, SECONDS), draw=calm_picture)
    request = AnalyzeVideoRequest(video_uri=f"file://{directory}/clip.mp4", chunk_duration_seconds=1)
    engine = Engine()
    async with system(directory, [engine], with_bank=False) as running:
        await put_bank(running, directory, OLD)
        engine.release.clear()
        first = running.stub.AnalyzeVideo(request, timeout=60)
        await until(engine.started.is_set)

        async def go_on() -> AnalyzeVideoResponse:
            engine.release.set()
            return await first if not first.done() else await running.stub.AnalyzeVideo(request, timeout=60)

        yield running, go_on


async def test_a_video_is_compared_with_one_bank_to_its_end_though_that_is_replaced_meanwhile(tmp_path: Path):
    async with first_chunk_held_up(tmp_path) as (running, analyze):
        await put_bank(running, tmp_path, NEW)
        assert words(await analyze()) == set(OLD[0])
        assert words(await analyze()) == set(NEW[0])


async def test_a_video_whose_bank_is_no_longer_loaded_restarts_with_the_new_one(tmp_path: Path):
    async with first_chunk_held_up(tmp_path) as (running, analyze):
        for number in range(3):
            await put_bank(running, tmp_path, ([*NEW[0], str(number)], NEW[1]))
        answer = await analyze()
        assert words(answer) == {*NEW[0], "2"}
        assert len(answer.chunks) == SECONDS
