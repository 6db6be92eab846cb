"""What happens, and the status that the caller sees: every row of the contract, through the three services."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import av
import grpc
import numpy as np
import pytest
from aiohttp import web

from tests.rendering import calm_picture, render, steady
from tests.system import EMBEDDING_DIM, Engine, System, system
from videoanalysis.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    Overloaded,
    PermissionDenied,
    ServiceError,
    Unavailable,
)
from videoanalysis.status import from_rpc_error
from videoanalysis.storage import S3Uri, Storage
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest
from videoanalysis.v1.error_reason_pb2 import ErrorReason


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return render(tmp_path_factory.mktemp("clips") / "clip.mp4", steady(10, 3), draw=calm_picture)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A second of noise and no picture, in a container for both."""
    path = tmp_path_factory.mktemp("clips") / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        noise = np.random.default_rng(1).uniform(-0.1, 0.1, (1, 16_000)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


async def failure(running: System, uri: str, seconds: float = 30, **options: object) -> ServiceError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.AnalyzeVideo(AnalyzeVideoRequest(video_uri=uri, **options), timeout=seconds)
    return from_rpc_error(caught.value)


def summary(error: ServiceError) -> tuple[type[ServiceError], ErrorReason, str | None]:
    return type(error), error.reason, error.field


async def test_what_the_caller_must_change_is_an_invalid_argument(clip, sound, tmp_path):
    (tmp_path / "text.mp4").write_bytes(b"this is no video\n" * 500)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "cut_short.mp4").write_bytes(clip.read_bytes()[:1000])
    allowed = [tmp_path, clip.parent, sound.parent]
    async with system(tmp_path, allowed_file_roots=allowed) as running:
        assert summary(await failure(running, "clip.mp4")) == (InvalidInput, ErrorReason.MALFORMED_URI, "video_uri")
        too_many = await failure(running, f"file://{clip}", frames_per_chunk=65)
        assert summary(too_many) == (InvalidInput, ErrorReason.INVALID_INPUT, "frames_per_chunk")
        for name in ("text", "empty", "cut_short"):
            error = await failure(running, f"file://{tmp_path}/{name}.mp4")
            assert summary(error) == (InvalidInput, ErrorReason.NOT_A_VIDEO, "video_uri"), name
        assert summary(await failure(running, f"file://{sound}")) == (
            InvalidInput,
            ErrorReason.NO_VIDEO_STREAM,
            "video_uri",
        )
        assert running.is_at_rest()


@pytest.mark.parametrize("limit", [{"max_pixels": 64 * 48 - 1}, {"max_video_seconds": 2.5}, {"max_packets": 10}])
async def test_a_video_over_a_limit_is_an_invalid_argument(limit, clip, tmp_path):
    async with system(tmp_path, allowed_file_roots=[clip.parent], **limit) as running:
        assert summary(await failure(running, f"file://{clip}")) == (
            InvalidInput,
            ErrorReason.VIDEO_OVER_LIMIT,
            "video_uri",
        )


async def test_a_missing_object_or_bucket_is_not_found(tmp_path, storage, bucket):
    async with system(tmp_path, storage=storage) as running:
        for uri in (f"s3://{bucket}/missing.mp4", "s3://no-such-bucket/clip.mp4"):
            assert summary(await failure(running, uri)) == (NotFound, ErrorReason.OBJECT_NOT_FOUND, "video_uri")


async def test_a_bucket_that_is_not_allowed_is_permission_denied(tmp_path, storage, bucket):
    async with system(tmp_path, storage=storage, allowed_buckets=["other"]) as running:
        error = await failure(running, f"s3://{bucket}/clip.mp4")
    assert summary(error) == (PermissionDenied, ErrorReason.BUCKET_NOT_ALLOWED, "video_uri")


async def test_an_object_that_storage_denies_is_permission_denied(tmp_path, s3_credentials):
    async with storage_that_answers(403) as storage, system(tmp_path, storage=storage) as running:
        error = await failure(running, "s3://bucket/clip.mp4")
    assert summary(error) == (PermissionDenied, ErrorReason.STORAGE_ACCESS_DENIED, "video_uri")


async def test_an_object_over_the_byte_limit_is_a_failed_precondition(clip, tmp_path, storage, bucket):
    await storage.write(S3Uri(bucket, "clip.mp4"), clip.read_bytes(), "video/mp4")
    async with system(tmp_path, storage=storage, max_object_bytes=1000, scratch_bytes=1000) as running:
        error = await failure(running, f"s3://{bucket}/clip.mp4")
    assert summary(error) == (FailedPrecondition, ErrorReason.OBJECT_OVER_LIMIT, "video_uri")


async def test_a_bank_of_another_model_is_a_failed_precondition(clip, tmp_path):
    async with system(tmp_path):
        pass  # leaves its bank behind
    other = Engine(embedding_dim=EMBEDDING_DIM + 1)
    async with system(tmp_path, [other], with_bank=False, allowed_file_roots=[clip.parent]) as running:
        error = await failure(running, f"file://{clip}")
    assert summary(error) == (FailedPrecondition, ErrorReason.BANK_MODEL_MISMATCH, "text_bank")


async def test_overload_is_resource_exhausted_with_the_retry_delay(clip, tmp_path):
    engine = Engine()
    engine.release.clear()
    async with system(tmp_path, [engine], allowed_file_roots=[clip.parent], max_videos=1, max_waiting=0) as running:
        first = running.stub.AnalyzeVideo(AnalyzeVideoRequest(video_uri=f"file://{clip}"), timeout=30)
        await asyncio.to_thread(engine.started.wait, 10)
        error = await failure(running, f"file://{clip}")
        engine.release.set()
        await first
    assert summary(error) == (Overloaded, ErrorReason.OVERLOADED, None)
    assert error.retry_after_seconds >= 1


@pytest.mark.parametrize(
    ("away", "reason"), [("encoders", ErrorReason.ENCODER_UNAVAILABLE), ("decoders", ErrorReason.DECODER_UNAVAILABLE)]
)
async def test_services_that_stay_unavailable_make_it_unavailable(away, reason, clip, tmp_path):
    async with system(
        tmp_path, allowed_file_roots=[clip.parent], replica_wait_seconds=0.2, **{away: [closed_address()]}
    ) as running:
        assert summary(await failure(running, f"file://{clip}")) == (Unavailable, reason, None)
        assert running.is_at_rest()


@pytest.mark.parametrize("status", [500, 503])
async def test_storage_that_fails_makes_it_unavailable(status, tmp_path, s3_credentials):
    async with storage_that_answers(status) as storage, system(tmp_path, storage=storage) as running:
        error = await failure(running, "s3://bucket/clip.mp4")
    assert summary(error)[:2] == (Unavailable, ErrorReason.STORAGE_UNAVAILABLE)


async def test_storage_that_does_not_answer_makes_it_unavailable(tmp_path, s3_credentials):
    async with Storage.open(f"http://{closed_address()}") as storage, system(tmp_path, storage=storage) as running:
        error = await failure(running, "s3://bucket/clip.mp4")
    assert summary(error)[:2] == (Unavailable, ErrorReason.STORAGE_UNAVAILABLE)


async def test_a_bank_that_is_expected_makes_it_unavailable_and_an_unknown_one_is_not_found(clip, tmp_path):
    async with system(tmp_path, with_bank=False, allowed_file_roots=[clip.parent]) as running:
        running.text_banks.expected = ["mine"]
        error = await failure(running, f"file://{clip}", text_bank="mine")
        unknown = await failure(running, f"file://{clip}", text_bank="mind")
    assert summary(error) == (Unavailable, ErrorReason.BANK_NOT_READY, "text_bank")
    assert "mine" in error.message
    assert summary(unknown) == (NotFound, ErrorReason.TEXT_BANK_NOT_FOUND, "text_bank")
    assert "mind" in unknown.message


async def test_a_deadline_that_passes_is_deadline_exceeded(clip, tmp_path):
    engine = Engine()
    engine.release.clear()
    async with system(tmp_path, [engine], allowed_file_roots=[clip.parent], max_request_seconds=0.3) as running:
        ours = await failure(running, f"file://{clip}")
        theirs = await failure(running, f"file://{clip}", seconds=0.2)
        engine.release.set()
    assert isinstance(ours, DeadlineExceeded)
    assert isinstance(theirs, DeadlineExceeded)


async def test_a_call_that_its_caller_cancels_is_cancelled(clip, tmp_path):
    engine = Engine()
    engine.release.clear()
    async with system(tmp_path, [engine], allowed_file_roots=[clip.parent]) as running:
        call = running.stub.AnalyzeVideo(AnalyzeVideoRequest(video_uri=f"file://{clip}"), timeout=30)
        await asyncio.to_thread(engine.started.wait, 10)
        call.cancel()
        assert await call.code() == grpc.StatusCode.CANCELLED
        engine.release.set()


async def test_a_bug_is_internal_without_details(clip, tmp_path):
    engine = Engine()
    async with system(tmp_path, [engine], allowed_file_roots=[clip.parent]) as running:
        running.frame_budget.limit = 1  # a chunk that could never fit: a state that the settings rule out
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.stub.AnalyzeVideo(AnalyzeVideoRequest(video_uri=f"file://{clip}"), timeout=30)
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INTERNAL, "internal error")
        assert os.path.basename(__file__) not in str(caught.value)


def closed_address() -> str:
    """host:port at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@asynccontextmanager
async def storage_that_answers(status: int) -> AsyncIterator[Storage]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with Storage.open(f"http://127.0.0.1:{runner.addresses[0][1]}") as storage:
            yield storage
    finally:
        await runner.cleanup()
