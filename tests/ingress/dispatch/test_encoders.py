"""Encoders that break the protocol: real servers that end the call, fall silent or answer nonsense."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from math import inf, nan

import grpc
import numpy as np
import pytest
from prometheus_client import REGISTRY

from services.ingress.admission import ByteBudget, Deadline, Share
from services.ingress.dispatch import Encoders, Replicas, Static
from services.ingress.sampling import FrameBuffer
from tests.ingress.announced import Announced
from tests.ingress.waiting import until
from tests.system import IMAGE_SIZE, Engine, encoder, replica
from videoanalysis import tensors
from videoanalysis.v1.encoder_pb2 import (
    Admitted,
    ChunkEmbeddings,
    ChunkHeader,
    EncodeChunkRequest,
    EncodeChunkResponse,
    EncodeTextsResponse,
    GetModelResponse,
    ModelInfo,
    Parked,
)
from videoanalysis.v1.encoder_pb2_grpc import EncoderServiceServicer, add_EncoderServiceServicer_to_server

FRAMES = 64
SHARE = Share("a caller", 1)


class Sick(EncoderServiceServicer):
    """Admits each chunk and then answers as `answer` does."""

    def __init__(self, answer: Callable[[], EncodeChunkResponse] | None = None, model: ModelInfo | None = None) -> None:
        self._answer = answer
        self._model = model
        self.calls = 0

    async def EncodeChunk(
        self, requests: AsyncIterator[EncodeChunkRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[EncodeChunkResponse]:
        self.calls += 1
        await anext(requests)
        yield EncodeChunkResponse(parked=Parked())
        yield EncodeChunkResponse(admitted=Admitted())
        if self._answer is None:
            # Before the frames are there.
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "too slow")
        async for _ in requests:
            pass
        yield self._answer()

    async def EncodeTexts(self, request, context):
        self.calls += 1
        rows = np.full((len(request.texts), self._model.embedding_dim), nan, np.float32)
        return EncodeTextsResponse(embeddings=tensors.to_proto(rows), model_digest=request.model_digest)

    async def GetModel(self, request, context):
        self.calls += 1
        return GetModelResponse(model=ModelInfo(image_size=IMAGE_SIZE))


@asynccontextmanager
async def with_sick(
    sick: EncoderServiceServicer, engine: Engine, heartbeat_timeout: float = 3.0
) -> AsyncIterator[tuple[Encoders, FrameBuffer]]:
    async with AsyncExitStack() as stack:
        server = grpc.aio.server()
        add_EncoderServiceServicer_to_server(sick, server)
        bad = await stack.enter_async_context(replica(server))
        good = await stack.enter_async_context(encoder(engine))
        pool = Replicas("encoder", Static([bad.address, good.address]), attempt_seconds=10, wait_seconds=10)
        encoders = Encoders(await stack.enter_async_context(pool), IMAGE_SIZE, heartbeat_timeout=heartbeat_timeout)
        # The sick one has less work, so it comes first.
        pool.by_address[good.address].begin()
        frames = await FrameBuffer.allocate(FRAMES * IMAGE_SIZE**2 * 3, ByteBudget(1 << 24))
        stack.callback(frames.close)
        yield encoders, frames


def result(rows: np.ndarray, model_digest: str | None = None) -> Callable[[], EncodeChunkResponse]:
    digest = Engine().model.digest if model_digest is None else model_digest
    return lambda: EncodeChunkResponse(
        result=ChunkEmbeddings(embeddings=tensors.to_proto(rows.astype(np.float32)), model_digest=digest)
    )


def unfilled() -> EncodeChunkResponse:
    answer = result(UNIT)()
    answer.result.embeddings.data = answer.result.embeddings.data[:-1]
    return answer


def years_long() -> EncodeChunkResponse:
    answer = result(UNIT)()
    answer.result.compute.seconds = 10**9
    return answer


DIMENSIONS = Engine().model.embedding_dim
UNIT = np.tile(np.eye(1, DIMENSIONS), (FRAMES, 1))
BROKEN = {
    "ends the call": None,
    "a NaN": result(np.where(np.arange(FRAMES)[:, None] == 5, nan, UNIT)),
    "an infinity": result(np.where(np.arange(FRAMES)[:, None] == 5, inf, UNIT)),
    "rows that are not of unit length": result(1.1 * UNIT),
    "a row too few": result(UNIT[:-1]),
    "another dimension": result(UNIT[:, :-1]),
    "one axis": result(UNIT.reshape(-1)),
    "bytes that do not fill the shape": unfilled,
    "another model": result(UNIT, "sha256:other"),
    "a message over the limit of gRPC": result(np.zeros((FRAMES, 1 << 15))),
    "years of work": years_long,
    "no result": lambda: EncodeChunkResponse(admitted=Admitted()),
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
async def test_a_chunk_that_one_encoder_fails_at_is_encoded_by_another_and_the_sick_one_is_avoided(answer):
    sick, engine = Sick(answer), Engine()
    before = failed_attempts()
    async with with_sick(sick, engine) as (encoders, frames):
        for _ in range(5):
            encoded = await encoders.encode(frames, FRAMES, "chunk", engine.model, Deadline.after(30), SHARE)
            assert encoded.embeddings.shape == (FRAMES, engine.model.embedding_dim)
        # Offered to last; on a slow machine the other one may seem late, and it is offered a chunk all the same.
        assert 1 <= sick.calls < 5
    assert before + 1 <= failed_attempts() <= before + sick.calls


def failed_attempts() -> float:
    return REGISTRY.get_sample_value("videoanalysis_attempts_total", {"service": "encoder", "outcome": "failed"}) or 0


class Silent(EncoderServiceServicer):
    """Parks each chunk and sends `heartbeats` of them; then nothing, or it admits the chunk."""

    def __init__(self, heartbeats: int, then_admits: bool) -> None:
        self._heartbeats = heartbeats
        self._then_admits = then_admits
        self.parked: list[ChunkHeader] = []
        self.admitted = 0

    async def EncodeChunk(
        self, requests: AsyncIterator[EncodeChunkRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[EncodeChunkResponse]:
        self.parked.append((await anext(requests)).header)
        for _ in range(self._heartbeats):
            await asyncio.sleep(0.2)
            yield EncodeChunkResponse(parked=Parked())
        if not self._then_admits:
            await asyncio.Event().wait()
        self.admitted += 1
        yield EncodeChunkResponse(admitted=Admitted())
        async for _ in requests:
            pass
        yield result(UNIT)()


async def test_a_chunk_stays_parked_while_heartbeats_come():
    alone, engine = Silent(heartbeats=8, then_admits=True), Engine()
    engine.release.clear()
    async with with_sick(alone, engine, heartbeat_timeout=1.0) as (encoders, frames):
        encoded = asyncio.create_task(encoders.encode(frames, FRAMES, "chunk", engine.model, Deadline.after(30), SHARE))
        blocking = [
            asyncio.create_task(encoders.encode(frames, FRAMES, "chunk", engine.model, Deadline.after(30), SHARE))
            for _ in range(3)
        ]
        done, _ = await asyncio.wait([encoded, *blocking], return_when=asyncio.FIRST_COMPLETED)
        assert all(task.exception() is None for task in done)
        assert alone.admitted
        engine.release.set()
        await asyncio.gather(encoded, *blocking)


async def test_an_encoder_without_heartbeats_hangs_and_the_chunk_keeps_its_age_elsewhere():
    silent, engine = Silent(heartbeats=1, then_admits=False), Engine()
    ages: list[float] = []

    class Listening(Silent):
        async def EncodeChunk(self, requests, context):
            header = (await anext(requests)).header
            ages.append(header.waited.ToNanoseconds() / 1e9)
            self.parked.append(header)
            yield EncodeChunkResponse(admitted=Admitted())
            async for _ in requests:
                pass
            yield result(UNIT)()

    late = Listening(0, then_admits=True)
    async with AsyncExitStack() as stack:
        addresses = []
        for servicer in (silent, late):
            server = grpc.aio.server()
            add_EncoderServiceServicer_to_server(servicer, server)
            addresses.append((await stack.enter_async_context(replica(server))).address)
        discovery = Announced(addresses[0])
        pool = Replicas("encoder", discovery, attempt_seconds=10, wait_seconds=10)
        encoders = Encoders(await stack.enter_async_context(pool), IMAGE_SIZE, heartbeat_timeout=0.4)
        frames = await FrameBuffer.allocate(FRAMES * IMAGE_SIZE**2 * 3, ByteBudget(1 << 24))
        stack.callback(frames.close)
        encoding = asyncio.create_task(
            encoders.encode(frames, FRAMES, "chunk", engine.model, Deadline.after(30), SHARE)
        )
        # Found hung, it is tried again, as there is no other.
        await until(lambda: len(silent.parked) > 1, 10)
        discovery.publish(*addresses)
        await encoding
    assert silent.parked[0].waited.ToNanoseconds() < silent.parked[1].waited.ToNanoseconds()
    assert ages[0] > 0.4
    assert len({header.ingress_id for header in silent.parked + late.parked}) == 1
    assert silent.parked[0].ingress_id


async def test_malformed_text_embeddings_and_models_are_asked_of_another():
    engine = Engine()
    sick = Sick(model=engine.model)
    async with with_sick(sick, engine) as (encoders, _):
        while not sick.calls:
            texts = await encoders.encode_texts(["a", "b"], engine.model, Deadline.after(30))
            assert np.isfinite(texts).all()
    sick = Sick()
    async with with_sick(sick, engine) as (encoders, _):
        while not sick.calls:
            assert (await encoders.model(Deadline.after(30))).digest == engine.model.digest


async def test_bytes_that_are_no_message_are_a_failed_attempt():
    engine = Engine()
    calls = 0

    async def garble(_request: bytes, _context: object) -> bytes:
        nonlocal calls
        calls += 1
        return b"\xff\xff\xff"

    handlers = {"EncodeTexts": grpc.unary_unary_rpc_method_handler(garble)}
    async with AsyncExitStack() as stack:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("videoanalysis.v1.EncoderService", handlers),)
        )
        bad = await stack.enter_async_context(replica(server))
        good = await stack.enter_async_context(encoder(engine))
        pool = Replicas("encoder", Static([bad.address, good.address]), attempt_seconds=10, wait_seconds=10)
        encoders = Encoders(await stack.enter_async_context(pool), IMAGE_SIZE)
        while not calls:
            assert len(await encoders.encode_texts(["a"], engine.model, Deadline.after(30))) == 1
