import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration

from services.encoder.admission import Admission
from services.encoder.servicer import EncoderServicer
from tests.encoder.fakes import MODEL, FakeEngine, until
from videoanalysis import tensors
from videoanalysis.calls import CallInterceptor
from videoanalysis.channels import connect
from videoanalysis.errors import DeadlineExceeded, FailedPrecondition, InvalidInput, Overloaded, ServiceError
from videoanalysis.status import from_rpc_error
from videoanalysis.v1.encoder_pb2 import (
    PIXEL_FORMAT_RGB24,
    ChunkHeader,
    EncodeChunkRequest,
    EncodeTextsRequest,
    GetModelRequest,
)
from videoanalysis.v1.encoder_pb2_grpc import EncoderServiceStub
from videoanalysis.v1.error_reason_pb2 import ErrorReason

SIZE = MODEL.image_size
FRAME_BYTES = SIZE * SIZE * 3
MIB = 1 << 20


@dataclass
class Encoder:
    """A servicer behind a real server, and what a test looks at."""

    stub: EncoderServiceStub
    engine: FakeEngine
    chunks: Admission
    texts: Admission


@asynccontextmanager
async def serving(
    *, max_frames: int = 64, parked: int = 8, heartbeat_seconds: float = 5.0, **limits: float
) -> AsyncIterator[Encoder]:
    engine = FakeEngine()
    buffers = [engine.allocate(max_frames * FRAME_BYTES) for _ in range(2)]
    chunks = Admission(buffers, max_parked=parked, **limits)
    texts = Admission([engine.allocate(0)], max_parked=1)
    server = grpc.aio.server(interceptors=[CallInterceptor()])
    EncoderServicer(engine, chunks, texts, max_frames, heartbeat_seconds).add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    async with chunks, texts:
        await server.start()
        async with connect(f"127.0.0.1:{port}") as channel:
            yield Encoder(EncoderServiceStub(channel), engine, chunks, texts)
        engine.release.set()
        await server.stop(None)


def header(frames: int = 2, **changes: object) -> ChunkHeader:
    wanted = {"height": SIZE, "width": SIZE, "pixel_format": PIXEL_FORMAT_RGB24, "chunk_key": "video/0", **changes}
    return ChunkHeader(frames=frames, **wanted)


def picture_bytes(frames: int) -> bytes:
    return np.random.default_rng(frames).integers(0, 256, frames * FRAME_BYTES, dtype=np.uint8).tobytes()


async def admitted(encoder: Encoder, wanted: ChunkHeader):
    """A call that holds a permit and has sent no frames."""
    call = encoder.stub.EncodeChunk(timeout=20)
    await call.write(EncodeChunkRequest(header=wanted))
    response = await call.read()
    assert response.HasField("admitted")
    return call, response.admitted


async def finish(call, data: bytes, piece_bytes: int = MIB, pause: float = 0.0):
    """Send `data`, close, and return the result; raises what the encoder answered instead."""
    try:
        for start in range(0, len(data), piece_bytes):
            await call.write(EncodeChunkRequest(piece=data[start : start + piece_bytes]))
            await asyncio.sleep(pause)
        await call.done_writing()
        response = await call.read()
    except asyncio.InvalidStateError:
        # The call was over before all was written.
        response = grpc.aio.EOF
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    if response is grpc.aio.EOF:
        raise await failure(call)
    return response.result


async def encode(encoder: Encoder, wanted: ChunkHeader, data: bytes, piece_bytes: int = MIB):
    try:
        call, _ = await admitted(encoder, wanted)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    return await finish(call, data, piece_bytes)


async def failure(call) -> ServiceError:
    error = grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )
    return from_rpc_error(error)


async def test_encodes_a_chunk_from_pieces_of_any_size():
    async with serving() as encoder:
        data = picture_bytes(3)
        result = await encode(encoder, header(frames=3), data, piece_bytes=100)
        embeddings = tensors.from_proto(result.embeddings)
        assert embeddings.shape == (3, MODEL.embedding_dim)
        assert embeddings.dtype == np.float32
        assert result.model_digest == MODEL.digest
        assert encoder.engine.seen[0].shape == (3, SIZE, SIZE, 3)
        assert encoder.engine.seen[0].tobytes() == data


async def test_reports_the_time_on_the_accelerator_apart_from_the_wait_for_it():
    async with serving() as encoder:
        encoder.engine.release.clear()
        call = asyncio.create_task(encode(encoder, header(), picture_bytes(2)))
        await until(lambda: encoder.engine.running == 1)
        await asyncio.sleep(0.3)
        encoder.engine.release.set()
        result = await call
        assert result.compute.ToNanoseconds() == 250_000_000
        assert 0.04 < result.queue.ToNanoseconds() / 1e9 < 1


async def test_reports_how_long_the_header_was_parked():
    async with serving() as encoder:
        first, at_once = await admitted(encoder, header())
        await admitted(encoder, header())
        waiting = asyncio.create_task(admitted(encoder, header()))
        await until(lambda: encoder.chunks.parked == 1)
        await asyncio.sleep(0.05)
        await finish(first, picture_bytes(2))
        _, parked = await waiting
        assert at_once.parked.ToNanoseconds() < 40e6 < parked.parked.ToNanoseconds()


async def test_reports_the_other_chunks_when_a_chunk_is_done():
    async with serving(piece_seconds=10, upload_seconds=10) as encoder:
        first, _ = await admitted(encoder, header())
        uploading, _ = await admitted(encoder, header())
        parked = asyncio.ensure_future(encode(encoder, header(), picture_bytes(2)))
        await until(lambda: encoder.chunks.parked == 1)
        # The parked one moves up as the first leaves.
        assert (await finish(first, picture_bytes(2))).other_chunks_in_flight == 2
        await parked
        assert (await finish(uploading, picture_bytes(2))).other_chunks_in_flight == 0


async def test_an_empty_or_equal_digest_is_served_and_another_refused_naming_both():
    async with serving() as encoder:
        await encode(encoder, header(model_digest=""), picture_bytes(2))
        await encode(encoder, header(model_digest=MODEL.digest), picture_bytes(2))
        with pytest.raises(FailedPrecondition, match=r"sha256:other is wanted, .* sha256:fake") as refusal:
            await encode(encoder, header(model_digest="sha256:other"), picture_bytes(2))
        assert refusal.value.reason == ErrorReason.MODEL_MISMATCH


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (header(frames=0), "header.frames"),
        (header(frames=65), "header.frames"),
        (header(height=SIZE + 1), "header.height"),
        (header(width=SIZE - 1), "header.height"),
        (header(pixel_format=0), "header.pixel_format"),
        (header(chunk_key="k" * 201), "header.chunk_key"),
        (header(ingress_id="i" * 65), "header.ingress_id"),
    ],
)
async def test_refuses_a_header_naming_the_field(wanted, field):
    async with serving() as encoder:
        with pytest.raises(InvalidInput) as refusal:
            await encode(encoder, wanted, b"")
        assert refusal.value.field == field
        assert encoder.chunks.in_flight == 0


async def test_takes_as_many_frames_as_its_limit():
    async with serving(max_frames=4) as encoder:
        await encode(encoder, header(frames=4), picture_bytes(4))
        with pytest.raises(InvalidInput, match="5, not 1 to 4"):
            await encode(encoder, header(frames=5), picture_bytes(5))


async def test_refuses_pieces_without_a_header():
    async with serving() as encoder:
        call = encoder.stub.EncodeChunk(timeout=20)
        with pytest.raises(InvalidInput, match="first message must be the header"):
            await finish(call, b"abc")


async def test_refuses_a_call_without_messages():
    async with serving() as encoder:
        call = encoder.stub.EncodeChunk(timeout=20)
        with pytest.raises(InvalidInput, match="first message must be the header"):
            await finish(call, b"")


async def test_refuses_a_second_header():
    async with serving() as encoder:
        call, _ = await admitted(encoder, header())
        await call.write(EncodeChunkRequest(header=header()))
        with pytest.raises(InvalidInput, match="only pieces may follow"):
            await finish(call, picture_bytes(2))


async def test_refuses_a_piece_over_two_mebibytes():
    async with serving() as encoder:
        for _ in range(5):
            with pytest.raises(InvalidInput, match="2097153 bytes, over 2097152"):
                await encode(encoder, header(), bytes(4 * MIB), piece_bytes=2 * MIB + 1)


@pytest.mark.parametrize("sent", [1, 20 * MIB])
async def test_more_bytes_than_declared_are_invalid_even_if_the_caller_goes_on_sending(sent):
    async with serving() as encoder:
        for _ in range(5):
            with pytest.raises(InvalidInput, match="more than the 384 bytes"):
                await encode(encoder, header(), picture_bytes(2) + bytes(sent))
            assert encoder.chunks.in_flight == 0


async def test_fewer_bytes_than_declared_are_invalid():
    async with serving() as encoder:
        with pytest.raises(InvalidInput, match="383 bytes, not the 384"):
            await encode(encoder, header(), picture_bytes(2)[:-1])


async def test_a_silent_upload_loses_its_permit_and_ends_with_deadline_exceeded():
    async with serving(piece_seconds=0.1) as encoder:
        call, _ = await admitted(encoder, header())
        assert encoder.chunks.in_flight == 1
        await until(lambda: encoder.chunks.in_flight == 0, seconds=1)
        with pytest.raises(DeadlineExceeded) as abort:
            await finish(call, b"")
        assert abort.value.reason == ErrorReason.UPLOAD_TOO_SLOW


async def test_a_trickling_upload_ends_with_deadline_exceeded():
    async with serving(upload_seconds=0.2) as encoder:
        call, _ = await admitted(encoder, header(frames=64))
        with pytest.raises(DeadlineExceeded):
            # Past the limit, but not for ever: a write that meets the status on its way fails with INTERNAL.
            await finish(call, b"x" * 15, piece_bytes=1, pause=0.02)
        assert encoder.chunks.in_flight == 0


async def test_beyond_two_in_flight_and_the_parked_a_chunk_is_refused_with_a_hint_when_to_retry(capsys):
    async with serving(parked=1) as encoder:
        await admitted(encoder, header())
        await admitted(encoder, header())
        waiting = asyncio.create_task(admitted(encoder, header()))
        await until(lambda: encoder.chunks.parked == 1)
        with pytest.raises(Overloaded) as refusal:
            await encode(encoder, header(), picture_bytes(2))
        assert refusal.value.reason == ErrorReason.ENCODER_BUSY
        assert 0 < refusal.value.retry_after_seconds <= 0.5
        waiting.cancel()
    written = capsys.readouterr().out
    assert written.count("reason=ENCODER_BUSY") == written.count("RESOURCE_EXHAUSTED") == 1


async def test_a_parked_header_gets_a_heartbeat_until_it_is_admitted():
    async with serving(heartbeat_seconds=0.02) as encoder:
        first, _ = await admitted(encoder, header())
        await admitted(encoder, header())
        parked = encoder.stub.EncodeChunk(timeout=20)
        await parked.write(EncodeChunkRequest(header=header()))
        for _ in range(3):
            assert (await parked.read()).HasField("parked")
        await finish(first, picture_bytes(2))
        while (response := await parked.read()).HasField("parked"):
            pass
        assert response.HasField("admitted")


async def test_a_header_carries_its_ingress_and_its_age():
    async with serving() as encoder:
        holders = [await admitted(encoder, header()) for _ in range(2)]
        order = []

        async def wait_in_line(name: str, ingress: str, waited: float) -> None:
            age = Duration(seconds=int(waited))
            call, _ = await admitted(encoder, header(ingress_id=ingress, waited=age))
            order.append(name)
            await finish(call, picture_bytes(2))

        lines = []
        for line in (("new", "a", 0), ("old", "a", 60), ("other", "b", 0), ("absurd", "a", -(10**9))):
            lines.append(asyncio.create_task(wait_in_line(*line)))
            await until(lambda: encoder.chunks.parked == len(lines))
        for call, _ in holders:
            call.cancel()
        await asyncio.gather(*lines)
        assert set(order[:2]) == {"old", "other"}


async def test_a_caller_that_cancels_while_parked_leaves_the_queue():
    async with serving() as encoder:
        calls = [await admitted(encoder, header()) for _ in range(2)]
        parked = encoder.stub.EncodeChunk(timeout=20)
        await parked.write(EncodeChunkRequest(header=header()))
        await until(lambda: encoder.chunks.parked == 1)
        parked.cancel()
        await until(lambda: encoder.chunks.parked == 0, seconds=1)
        assert encoder.chunks.in_flight == len(calls)


@pytest.mark.parametrize("sent", [b"", b"half"])
async def test_a_caller_that_cancels_while_uploading_frees_its_permit(sent):
    async with serving() as encoder:
        call, _ = await admitted(encoder, header())
        await call.write(EncodeChunkRequest(piece=sent))
        call.cancel()
        await until(lambda: encoder.chunks.in_flight == 0, seconds=1)


async def test_a_caller_that_cancels_before_it_reads_admitted_frees_its_permit():
    async with serving() as encoder:
        for pause in (0, 0.0005, 0.001, 0.002):
            call = encoder.stub.EncodeChunk(timeout=20)
            await call.write(EncodeChunkRequest(header=header()))
            await asyncio.sleep(pause)
            call.cancel()
            await asyncio.sleep(0.01)
            await until(lambda: encoder.chunks.in_flight == 0, seconds=1)


async def test_a_caller_that_cancels_during_the_work_keeps_its_permit_until_the_work_ends():
    async with serving() as encoder:
        encoder.engine.release.clear()
        call = asyncio.create_task(encode(encoder, header(), picture_bytes(2)))
        await until(lambda: encoder.engine.running == 1)
        call.cancel()
        await asyncio.sleep(0.1)
        assert encoder.chunks.in_flight == 1
        encoder.engine.release.set()
        await until(lambda: encoder.chunks.in_flight == 0)


async def test_a_cancelled_call_is_not_logged_as_the_callers_mistake(capsys):
    async with serving() as encoder:
        for _ in range(5):
            call, _ = await admitted(encoder, header())
            call.cancel()
        await until(lambda: encoder.chunks.in_flight == 0)
        await asyncio.sleep(0.05)
    written = capsys.readouterr().out
    assert written.count("CANCELLED") == written.count("call ended") == 5


async def test_encodes_texts():
    async with serving() as encoder:
        response = await encoder.stub.EncodeTexts(EncodeTextsRequest(texts=["a", "b"]), timeout=20)
        assert tensors.from_proto(response.embeddings).shape == (2, MODEL.embedding_dim)
        assert response.model_digest == MODEL.digest


@pytest.mark.parametrize(
    ("texts", "field"),
    [([], "texts"), (["x"] * 257, "texts"), (["x", ""], "texts[1]"), (["x" * 2001], "texts[0]")],
)
async def test_refuses_texts_over_the_limits(texts, field):
    async with serving() as encoder:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await encoder.stub.EncodeTexts(EncodeTextsRequest(texts=texts), timeout=20)
        error = from_rpc_error(refusal.value)
        assert isinstance(error, InvalidInput)
        assert error.field == field


async def test_takes_texts_at_the_limits():
    async with serving() as encoder:
        await encoder.stub.EncodeTexts(EncodeTextsRequest(texts=["é" * 2000] * 256), timeout=20)


async def test_refuses_texts_for_another_model():
    async with serving() as encoder:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await encoder.stub.EncodeTexts(EncodeTextsRequest(texts=["a"], model_digest="sha256:other"), timeout=20)
        assert from_rpc_error(refusal.value).reason == ErrorReason.MODEL_MISMATCH


async def test_texts_are_served_while_every_permit_is_taken():
    async with serving() as encoder:
        for _ in range(2):
            await admitted(encoder, header())
        await encoder.stub.EncodeTexts(EncodeTextsRequest(texts=["a"]), timeout=20)
        assert encoder.chunks.in_flight == 2


async def test_texts_beyond_one_running_and_the_parked_are_refused():
    async with serving() as encoder:
        encoder.engine.release.clear()
        calls = [encoder.stub.EncodeTexts(EncodeTextsRequest(texts=["a"]), timeout=20) for _ in range(2)]
        waiting = [asyncio.ensure_future(call) for call in calls]
        await until(lambda: (encoder.texts.in_flight, encoder.texts.parked) == (1, 1))
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await encoder.stub.EncodeTexts(EncodeTextsRequest(texts=["a"]), timeout=20)
        error = from_rpc_error(refusal.value)
        assert isinstance(error, Overloaded)
        assert error.reason == ErrorReason.ENCODER_BUSY
        encoder.engine.release.set()
        await asyncio.gather(*waiting)


async def test_describes_its_model():
    async with serving() as encoder:
        model = (await encoder.stub.GetModel(GetModelRequest(), timeout=20)).model
        assert {name: getattr(model, name) for name in asdict(MODEL)} == asdict(MODEL)
        assert {field.name for field in model.DESCRIPTOR.fields} == set(asdict(MODEL))
