"""Each stage is held up in turn, and the time is seen in that part and in no other."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.rendering import calm_picture, render, steady
from tests.system import Engine, System, system
from videoanalysis.storage import S3Uri, Storage
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest, Timing

DELAY = 0.3
# Everything else together, on a machine with other things to do.
REST = 0.2


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return render(tmp_path_factory.mktemp("clips") / "clip.mp4", steady(10, 4), draw=calm_picture)


class SlowStorage(Storage):
    async def blocks(self, *arguments: Any) -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(DELAY)
        async for block in super().blocks(*arguments):
            yield block


class SlowServer(grpc.aio.ServerInterceptor):
    """Lets calls of one method wait before they are worked on."""

    def __init__(self, method: str) -> None:
        self._method = method

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        if details.method.endswith(self._method):
            await asyncio.sleep(DELAY)
        return await continuation(details)


async def timing(running: System, uri: str) -> Timing:
    answer = await running.stub.AnalyzeVideo(AnalyzeVideoRequest(video_uri=uri), timeout=30)
    return answer.timing


def check_only(part: str, taken: Timing) -> None:
    """`part`, such as "encode queue", took the delay; the other parts together did not."""
    stages = ("download", "sample", "encode", "decode")
    parts = {
        f"{stage} {phase}": getattr(getattr(taken, stage), f"{phase}_seconds")
        for stage in stages
        for phase in ("queue", "compute")
    }
    delayed = parts.pop(part)
    assert DELAY <= delayed < DELAY + REST, parts
    assert sum(parts.values()) < REST, parts
    assert taken.unattributed_seconds <= 0.02 * taken.total_seconds


async def test_a_slow_download_counts_as_download_compute(clip, tmp_path, storage, s3_endpoint, bucket):
    uri = S3Uri(bucket, "clip.mp4")
    await storage.write(uri, clip.read_bytes(), "video/mp4")
    async with SlowStorage.open(s3_endpoint) as slow, system(tmp_path, storage=slow) as running:
        check_only("download compute", await timing(running, str(uri)))


async def test_the_wait_for_a_slot_counts_as_download_queue(clip, tmp_path):
    engine = Engine()
    async with system(tmp_path, [engine], allowed_file_roots=[clip.parent], max_videos=1) as running:
        engine.release.clear()
        first = asyncio.create_task(timing(running, f"file://{clip}"))
        await asyncio.to_thread(engine.started.wait, 10)
        second = asyncio.create_task(timing(running, f"file://{clip}"))
        await asyncio.sleep(DELAY)
        engine.release.set()
        await first
        check_only("download queue", await second)


async def test_slow_sampling_counts_as_sample(clip, tmp_path):
    async with system(tmp_path, allowed_file_roots=[clip.parent], max_videos=1) as running:
        (pid,) = running.sampling.worker_pids
        os.kill(pid, signal.SIGSTOP)
        call = asyncio.create_task(timing(running, f"file://{clip}"))
        await asyncio.sleep(DELAY)
        os.kill(pid, signal.SIGCONT)
        taken = await call
    # Stopped before it has opened the file: that, too, is what sampling waits for.
    assert taken.sample.queue_seconds + taken.sample.compute_seconds >= DELAY - 0.05
    assert taken.total_seconds - taken.sample.queue_seconds - taken.sample.compute_seconds < REST


async def test_a_slow_computation_counts_as_encode_compute(clip, tmp_path):
    async with system(tmp_path, [Engine(service_ms=1000 * DELAY)], allowed_file_roots=[clip.parent]) as running:
        check_only("encode compute", await timing(running, f"file://{clip}"))


async def test_the_wait_for_an_encoder_counts_as_encode_queue(clip, tmp_path):
    async with delayed("EncodeChunk", clip, tmp_path) as running:
        check_only("encode queue", await timing(running, f"file://{clip}"))


async def test_the_wait_for_a_decoder_counts_as_decode_queue(clip, tmp_path):
    async with delayed("DecodeChunk", clip, tmp_path) as running:
        check_only("decode queue", await timing(running, f"file://{clip}"))


async def test_the_whole_video_answer_counts_as_decode_compute(clip, tmp_path):
    async with delayed("RankTexts", clip, tmp_path) as running:
        taken = await timing(running, f"file://{clip}")
    # One call, at the end: no scene ends before.
    assert DELAY <= taken.decode.compute_seconds < DELAY + REST
    assert taken.total_seconds - taken.decode.compute_seconds < REST


async def test_an_answer_reports_its_usage(clip, tmp_path):
    engine = Engine(service_ms=200)
    async with system(tmp_path, [engine], allowed_file_roots=[clip.parent]) as running:
        started = time.monotonic()
        answer = await running.stub.AnalyzeVideo(AnalyzeVideoRequest(video_uri=f"file://{clip}"), timeout=30)
        elapsed = time.monotonic() - started
    assert answer.usage.bytes_read == clip.stat().st_size
    assert 16 <= answer.usage.frames_decoded <= 40
    assert 0.2 <= answer.usage.accelerator_seconds < elapsed


@asynccontextmanager
async def delayed(method: str, clip: Path, directory: Path) -> AsyncIterator[System]:
    async with system(directory, allowed_file_roots=[clip.parent], interceptors=[SlowServer(method)]) as running:
        yield running
