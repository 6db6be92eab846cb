"""Answers that grow with the video: neither the ingress nor a message does."""

import asyncio
import json
from pathlib import Path

import pytest
from aiobotocore.session import AioSession
from google.protobuf import json_format

from tests.ingress.waiting import until
from tests.rendering import calm_picture, render, steady
from tests.system import Engine, System, system
from videoanalysis.client import AsyncClient
from videoanalysis.limits import MAX_MESSAGE_BYTES
from videoanalysis.storage import S3Uri
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest, AnalyzeVideoResponse, StreamAnalyzeVideoRequest
from videoanalysis.v1.decoder_pb2 import SCENE_DETECTION_EVERY_FRAME

SECONDS = 30
LABELS = [f"{index:03}" + "x" * 197 for index in range(100)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return render(tmp_path_factory.mktemp("clips") / "clip.mp4", steady(25, SECONDS), draw=calm_picture)


def request(clip: Path, **options: object) -> AnalyzeVideoRequest:
    """Nearly every one of 16 frames a second begins a scene with 100 long tags: 24 KB each."""
    return AnalyzeVideoRequest(
        video_uri=f"file://{clip}",
        labels=LABELS,
        top_k_tags=100,
        frames_per_chunk=16,
        chunk_duration_seconds=1,
        scene_threshold=1e-9,
        scene_detection=SCENE_DETECTION_EVERY_FRAME,
        **options,
    )


async def stream(running: System, wanted: AnalyzeVideoRequest) -> AnalyzeVideoResponse:
    async with AsyncClient(running.address) as client:
        return (await client.analyze(wanted.video_uri, **options(wanted))).message


def options(wanted: AnalyzeVideoRequest) -> dict[str, object]:
    return {field.name: value for field, value in wanted.ListFields() if field.name != "video_uri"}


async def test_no_message_of_a_stream_grows_with_the_video_and_the_client_puts_the_parts_together(clip, tmp_path):
    async with system(tmp_path, allowed_file_roots=[clip.parent]) as running:
        call = running.stub.StreamAnalyzeVideo(StreamAnalyzeVideoRequest(analysis=request(clip)))
        sizes: dict[str, list[int]] = {}
        async for event in call:
            sizes.setdefault(event.WhichOneof("event"), []).append(event.ByteSize())
        answer = await stream(running, request(clip))
    assert sum(sizes["chunk"]) > 5_000_000
    assert max(sizes["chunk"]) < MAX_MESSAGE_BYTES
    # The tags of the video, twice: once for it and once for its last scene.
    assert sizes["summary"] == [pytest.approx(2 * 24_000, rel=0.3)]
    assert len(answer.scenes) == len(answer.scene_changes) + 1 > 200
    assert answer.scenes[0].start_seconds == 0
    assert answer.scenes[-1].end_seconds == SECONDS
    for before, after in zip(answer.scenes, answer.scenes[1:], strict=False):
        assert before.end_seconds == after.start_seconds


async def test_an_answer_at_an_output_uri_is_that_of_the_stream(clip, tmp_path, storage, bucket):
    async with written(clip, tmp_path, storage, bucket) as running:
        uri = S3Uri(bucket, "a.json")
        wanted = request(clip, output_uri=str(uri), include_embeddings=True, stream_id="me")
        answer = await stream(running, wanted)
        document = (await storage.read(uri, 1 << 28)).decode()
    assert len(document) > 8 << 20  # more than one part
    assert json.loads(document) == json.loads(json_format.MessageToJson(answer))


async def test_a_caller_that_leaves_leaves_no_part_of_its_output(clip, tmp_path, storage, bucket, s3_endpoint):
    engine = Engine(embedding_dim=2048)
    async with (
        written(clip, tmp_path, storage, bucket, engine) as running,
        AioSession().create_client("s3", endpoint_url=s3_endpoint) as client,
    ):

        async def uploads() -> int:
            return len((await client.list_multipart_uploads(Bucket=bucket)).get("Uploads", []))

        wanted = AnalyzeVideoRequest(
            video_uri=f"file://{clip}",
            output_uri=f"s3://{bucket}/a.json",
            include_embeddings=True,
            frames_per_chunk=64,
            chunk_duration_seconds=1,
        )
        call = running.stub.StreamAnalyzeVideo(StreamAnalyzeVideoRequest(analysis=wanted))
        async for _ in call:
            if await uploads():
                engine.release.clear()
                break
        assert await uploads() == 1
        call.cancel()
        engine.release.set()
        await until(running.is_at_rest)
        for _ in range(1000):
            if not await uploads():
                break
            await asyncio.sleep(0.02)
        assert await uploads() == 0
        assert await storage.list(S3Uri(bucket, "")) == []


def written(clip: Path, directory: Path, storage, bucket: str, engine: Engine | None = None):
    return system(
        directory,
        [engine or Engine()],
        allowed_file_roots=[clip.parent],
        storage=storage,
        allowed_output_prefixes=[f"s3://{bucket}/"],
    )
