"""Small files that last long: what they cost on encoders is what they show, and bounded."""

from fractions import Fraction
from pathlib import Path

import grpc
import pytest

from tests.rendering import calm_picture, render, steady
from tests.system import Engine, System, system
from videoanalysis.errors import InvalidInput
from videoanalysis.status import from_rpc_error
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest, AnalyzeVideoResponse
from videoanalysis.v1.error_reason_pb2 import ErrorReason

LIMIT = 100
SOON = 60


@pytest.fixture(scope="module")
def long_slides(tmp_path_factory) -> Path:
    """Two pictures that last an hour, in a few kilobytes."""
    path = tmp_path_factory.mktemp("clips") / "slides.mp4"
    return render(path, [Fraction(0), Fraction(1800)], draw=calm_picture)


async def analyze(running: System, path: Path, **options: object) -> AnalyzeVideoResponse:
    request = AnalyzeVideoRequest(video_uri=f"file://{path}", **options)
    return await running.stub.AnalyzeVideo(request, timeout=SOON)


async def test_two_pictures_that_last_an_hour_cost_a_frame_a_chunk(long_slides, tmp_path):
    assert long_slides.stat().st_size < 10_000
    async with system(tmp_path, allowed_file_roots=[long_slides.parent]) as running:
        answer = await analyze(running, long_slides, chunk_duration_seconds=60, frames_per_chunk=64)
    assert len(answer.chunks) == 60
    assert all(len(chunk.frame_times_seconds) == 64 for chunk in answer.chunks)
    assert answer.usage.frames_encoded <= 62


async def test_a_request_that_would_cost_too_much_is_refused_by_field_with_the_remedy(tmp_path):
    clip = render(tmp_path / "clip.mp4", steady(10, 20), draw=calm_picture)
    engine = Engine()
    async with system(tmp_path, [engine], max_encoded_frames=LIMIT) as running:
        options = {"chunk_duration_seconds": 1, "frames_per_chunk": 8}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await analyze(running, clip, **options)
        error = from_rpc_error(caught.value)
        assert (type(error), error.reason, error.field) == (
            InvalidInput,
            ErrorReason.VIDEO_OVER_LIMIT,
            "frames_per_chunk",
        )
        assert "INGRESS_MAX_ENCODED_FRAMES" in error.message
        assert engine.chunks <= LIMIT // 8
        assert running.is_at_rest()
        # The remedy helps.
        answer = await analyze(running, clip, **{**options, "frames_per_chunk": 4})
        assert answer.usage.frames_encoded == 80
