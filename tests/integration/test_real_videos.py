"""Real clips through the three services: a correct answer or the documented status, never a frame that is not there."""

from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

import grpc
import numpy as np
import pytest
import pytest_asyncio

from services.encoder.synthetic import SyntheticEngine
from tests.ingress.sampling import oracle
from tests.system import EMBEDDING_DIM, IMAGE_SIZE, System, system
from videoanalysis import tensors
from videoanalysis.status import from_rpc_error
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest
from videoanalysis.v1.error_reason_pb2 import ErrorReason

VIDEOS = Path(__file__).parents[3] / "shared" / "videos"
NAMES = sorted(path.name for path in VIDEOS.glob("*.*") if path.suffix not in {".md", ".json"})
REFUSED = {
    "nasa_13013_audio_only.mp3": ErrorReason.NO_VIDEO_STREAM,
    "vp9_invalid_bitstream.webm": ErrorReason.TOO_MANY_DECODE_FAILURES,
}
# Of how many packets the decoder says that it cannot take them.
DECODE_FAILURES = {"decord_corrupted.mp4": 1}

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not NAMES, reason=f"{VIDEOS} with the real clips is not there"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory) -> AsyncIterator[System]:
    directory = tmp_path_factory.mktemp("real")
    async with system(directory, max_videos=1, allowed_file_roots=[VIDEOS]) as started:
        yield started


@pytest.mark.parametrize("name", [name for name in NAMES if name not in REFUSED])
async def test_every_sampled_frame_is_the_one_on_display(running, name):
    request = AnalyzeVideoRequest(video_uri=f"file://{VIDEOS / name}", include_embeddings=True)
    answer = await running.stub.AnalyzeVideo(request, timeout=60)
    expected = oracle.expected(VIDEOS / name, 16, Fraction(10), IMAGE_SIZE)
    assert answer.video_duration_seconds == float(expected.duration)
    assert answer.decode_failures == expected.refused == DECODE_FAILURES.get(name, 0)
    assert len(answer.chunks) == len(expected.chunks)
    engine = SyntheticEngine(image_size=IMAGE_SIZE, embedding_dim=EMBEDDING_DIM, service_ms=0)
    for chunk, wanted in zip(answer.chunks, expected.chunks, strict=True):
        assert list(chunk.frame_times_seconds) == [float(time) for time in wanted.frame_times]
        embeddings = engine.encode(wanted.pixels).embeddings.astype(np.float16)
        assert np.array_equal(tensors.from_proto(chunk.embeddings), embeddings)
    assert running.is_at_rest()


@pytest.mark.parametrize("name", [name for name in NAMES if name in REFUSED])
async def test_what_holds_no_picture_is_refused_as_documented(running, name):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.AnalyzeVideo(AnalyzeVideoRequest(video_uri=f"file://{VIDEOS / name}"), timeout=60)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert from_rpc_error(caught.value).reason == REFUSED[name]
    assert running.is_at_rest()
