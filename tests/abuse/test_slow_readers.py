"""Callers that do not read keep neither a slot nor a place before it, and say nothing about how long videos take."""

import asyncio
from pathlib import Path

import pytest

from tests.abuse.http2 import Client, Stream, connect
from tests.ingress.waiting import until
from tests.rendering import calm_picture, render, steady
from tests.system import System, system
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest, StreamAnalyzeVideoRequest

SERVICE = "/videoanalysis.v1.VideoAnalysisService"
DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED = "4", "8"
SOON = 30


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return render(tmp_path_factory.mktemp("clips") / "clip.mp4", steady(10, 8), draw=calm_picture)


def request(clip: Path) -> AnalyzeVideoRequest:
    return AnalyzeVideoRequest(video_uri=f"file://{clip}", chunk_duration_seconds=1, frames_per_chunk=4)


async def streams(client: Client, clip: Path, count: int) -> list[Stream]:
    message = StreamAnalyzeVideoRequest(analysis=request(clip)).SerializeToString()
    return [await client.call(f"{SERVICE}/StreamAnalyzeVideo", message) for _ in range(count)]


async def answered(running: System, clip: Path) -> bool:
    return len((await running.stub.AnalyzeVideo(request(clip), timeout=SOON)).chunks) == 8


async def test_streams_that_are_not_read_give_their_slots_back(clip, tmp_path):
    async with (
        system(tmp_path, allowed_file_roots=[clip.parent], write_seconds=1) as running,
        connect(running.address, window=400) as client,
    ):
        await streams(client, clip, 2)
        # They have read that they wait, and no chunk: all slots are taken.
        await until(lambda: running.admission.running == 2)
        assert await answered(running, clip)
        await until(running.is_at_rest)


async def test_a_caller_that_reads_a_little_at_a_time_does_not_keep_its_slot(clip, tmp_path):
    async with (
        system(tmp_path, allowed_file_roots=[clip.parent], write_seconds=1) as running,
        connect(running.address, window=400) as client,
    ):
        (stream,) = await streams(client, clip, 1)
        await until(lambda: running.admission.running == 1)
        for _ in range(100):
            # Each write ends in time, but all of them together would take minutes.
            client.read(stream, 20)
            await asyncio.sleep(0.1)
            if not running.admission.running:
                break
        await until(running.is_at_rest)
        client.read(stream, 1 << 20)
        async with asyncio.timeout(SOON):
            await stream.ended.wait()
        assert stream.status == DEADLINE_EXCEEDED


async def test_streams_that_hang_before_they_ask_for_a_slot_are_counted_bounded_and_end(clip, tmp_path):
    async with (
        system(tmp_path, allowed_file_roots=[clip.parent], write_seconds=3, max_waiting=8) as running,
        connect(running.address, window=0) as client,
    ):
        hanging = await streams(client, clip, 8)
        await until(lambda: running.admission.arriving == 8)
        (refused,) = await streams(client, clip, 1)
        async with asyncio.timeout(SOON):
            await refused.ended.wait()
        assert refused.status == RESOURCE_EXHAUSTED
        await until(running.is_at_rest)
        assert await answered(running, clip)
        assert not any(stream.data for stream in hanging)


async def test_an_answer_that_is_read_late_holds_no_slot_and_is_no_service_time(clip, tmp_path):
    async with (
        system(tmp_path, allowed_file_roots=[clip.parent]) as running,
        connect(running.address, window=0) as client,
    ):
        late = await client.call(f"{SERVICE}/AnalyzeVideo", request(clip).SerializeToString())
        await until(lambda: running.admission.running == 1)
        await until(running.is_at_rest)
        taken = running.admission._times.mean_seconds
        await asyncio.sleep(0.5)
        client.read(late, 1 << 20)
        async with asyncio.timeout(SOON):
            await late.ended.wait()
        assert late.status == "0"
        assert running.admission._times.mean_seconds == taken
