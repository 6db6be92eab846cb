"""Requests that are made to cost more than they should: each is refused at once, by field, and costs no attempt."""

import asyncio
from pathlib import Path

import grpc
import pytest

from services.ingress.metrics import ATTEMPTS
from tests.rendering import calm_picture, render, steady
from tests.system import Engine, System, system
from videoanalysis.errors import InvalidInput, NotFound, ServiceError
from videoanalysis.status import from_rpc_error
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest, StreamAnalyzeVideoRequest
from videoanalysis.v1.decoder_pb2 import SCENE_DETECTION_EVERY_FRAME
from videoanalysis.v1.error_reason_pb2 import ErrorReason

SOON = 30
# Four bytes each in UTF-8.
LONG_LABELS = [f"{index:03}" + "\U0001f600" * 197 for index in range(100)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return render(tmp_path_factory.mktemp("clips") / "clip.mp4", steady(10, 3), draw=calm_picture)


async def refusal(running: System, request: AnalyzeVideoRequest, resume_token: bytes = b"") -> ServiceError:
    """Of a stream, which has no limit on the size of its answer."""
    wanted = StreamAnalyzeVideoRequest(analysis=request, resume_token=resume_token)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in running.stub.StreamAnalyzeVideo(wanted, timeout=SOON):
            pass
    return from_rpc_error(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stream_id", "x" * 201),
        ("stream_id", "a\x00b"),
        ("video_uri", "s3://bucket/" + "x" * 1_000_000),
        ("video_uri", "file:///" + "x" * 1_000_000),
        ("video_uri", "https://host/" + "x" * 1_000_000),
        ("video_uri", "file:///a\nb.mp4"),
        ("video_uri", "x" * 3_000_000),
        ("labels", ["x" * 1_000_000]),
        ("labels", ["a\x1bb"]),
        ("text_bank", "x" * 1_000_000),
        ("text_bank", "../default"),
        ("output_uri", "s3://bucket/" + "x" * 1_000_000),
        ("output_uri", "s3://bucket/done/../banks/default.safetensors"),
        ("output_uri", "s3://bucket/a\nb"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
async def test_a_text_that_is_too_long_or_has_control_characters_is_refused_by_field(field, value, clip, tmp_path):
    async with running_system(clip, tmp_path) as running:
        error = await refusal(running, AnalyzeVideoRequest(**{"video_uri": f"file://{clip}", field: value}))
        assert (type(error), error.field) == (InvalidInput, field)
        assert len(error.message) < 1000
        assert running.is_at_rest()


async def test_a_resume_token_that_is_too_long_is_refused_by_field(clip, tmp_path):
    async with running_system(clip, tmp_path) as running:
        error = await refusal(running, AnalyzeVideoRequest(video_uri=f"file://{clip}"), resume_token=b"x" * 1_000_000)
        assert (type(error), error.field) == (InvalidInput, "resume_token")


async def test_all_that_is_wrong_is_reported_at_once(clip, tmp_path):
    async with running_system(clip, tmp_path) as running:
        request = AnalyzeVideoRequest(
            video_uri="clip.mp4", output_uri="clip.json", frames_per_chunk=65, labels=["a", "a"], text_bank="a b"
        )
        error = await refusal(running, request)
    assert isinstance(error, InvalidInput)
    fields = ["video_uri", "output_uri", "frames_per_chunk", "labels", "text_bank"]
    assert [violation.field for violation in error.violations] == fields


async def test_an_unknown_text_bank_is_not_found_so_that_no_client_repeats_the_call(clip, tmp_path):
    async with running_system(clip, tmp_path) as running:
        error = await refusal(running, AnalyzeVideoRequest(video_uri=f"file://{clip}", text_bank="defualt"))
    assert (type(error), error.reason, error.field) == (NotFound, ErrorReason.TEXT_BANK_NOT_FOUND, "text_bank")
    assert "loaded: default" in error.message


async def test_scenes_whose_tags_could_exceed_a_message_are_refused_before_anything_is_encoded(clip, tmp_path):
    engine = Engine()
    failed = ATTEMPTS.labels("decoder", "failed")._value.get()
    async with running_system(clip, tmp_path, engine) as running:
        request = AnalyzeVideoRequest(
            video_uri=f"file://{clip}",
            labels=LONG_LABELS,
            top_k_tags=100,
            frames_per_chunk=64,
            scene_threshold=1e-9,
            scene_detection=SCENE_DETECTION_EVERY_FRAME,
        )
        error = await refusal(running, request)
        assert (type(error), error.field) == (InvalidInput, "top_k_tags")
        assert engine.chunks == 0
        # As many scenes with fewer tags are answered, in messages that a client takes without special settings.
        request.top_k_tags = 40
        wanted = StreamAnalyzeVideoRequest(analysis=request)
        events = [event async for event in running.stub.StreamAnalyzeVideo(wanted, timeout=SOON)]
        assert sum(len(event.finished_scenes) for event in events) > 50
    assert ATTEMPTS.labels("decoder", "failed")._value.get() == failed


async def test_the_longest_id_is_accepted_by_all_services(clip, tmp_path):
    async with running_system(clip, tmp_path) as running:
        request = AnalyzeVideoRequest(video_uri=f"file://{clip}", stream_id="x" * 200)
        answer = await asyncio.wait_for(running.stub.AnalyzeVideo(request), SOON)
        assert answer.stream_id == "x" * 200


def running_system(clip: Path, directory: Path, engine: Engine | None = None):
    return system(
        directory,
        [engine or Engine()],
        allowed_file_roots=[clip.parent],
        allowed_buckets=["bucket"],
        allowed_output_prefixes=["s3://bucket/done"],
    )
