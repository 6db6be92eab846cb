"""The clip inside the service, through the three services with the bundled model, compared with what was drawn."""

import pytest

from services.encoder import checkpoint, siglip
from services.encoder.bundled import evaluate
from services.encoder.bundled.captions import descriptions
from services.encoder.bundled.clip import DISSOLVE_SECONDS, RATE, SHOTS
from tests.system import TEXTS, system
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest, AnalyzeVideoResponse


@pytest.fixture(scope="module")
def engine() -> siglip.SiglipEngine:
    found = checkpoint.resolve(str(evaluate.DIRECTORY), None)
    return siglip.load(found, device="cpu", precision="float32", torch_threads=1)


@pytest.fixture
async def answer(engine, tmp_path) -> AnalyzeVideoResponse:
    async with system(tmp_path, [engine], texts=TEXTS.parent / "rendered") as running:
        return await running.stub.AnalyzeVideo(AnalyzeVideoRequest(video_uri="sample://clip"), timeout=60)


async def test_what_was_drawn_is_what_comes_back(answer):
    assert answer.video_duration_seconds == SHOTS[-1].end
    assert answer.decode_failures == 0

    # One change for each cut, at the first frame sampled at or after it; the dissolve counts from its first frame.
    sampled = [time for chunk in answer.chunks for time in chunk.frame_times_seconds]
    cuts = [shot.start for shot in SHOTS[1:]]
    expected = [min(time for time in sampled if time >= cut) for cut in cuts]
    assert [change.timestamp_seconds for change in answer.scene_changes] == expected
    for change, shot in zip(answer.scene_changes, SHOTS[1:], strict=True):
        if shot.dissolves:
            assert shot.start <= change.cut_seconds <= shot.start + DISSOLVE_SECONDS
        else:
            assert change.cut_seconds == pytest.approx(shot.start, abs=1e-9)
            assert change.cut_confidence > 0.8

    # Each scene has the sentence and the place and colour of its shot.
    claims = {caption.text: caption.claims for caption in descriptions()}
    assert len(answer.scenes) == len(SHOTS)
    for scene, shot in zip(answer.scenes, SHOTS, strict=True):
        said = claims[scene.caption.text]
        assert said == {name: getattr(shot.scene, name) for name in said}
        assert {shot.scene.place, shot.scene.colour} <= {tag.text for tag in scene.tags}
        assert scene.start_seconds == pytest.approx(shot.start, abs=DISSOLVE_SECONDS + 1 / RATE)

    # Each chunk is named after the shot that fills most of it.
    for chunk in answer.chunks:
        end = chunk.start_seconds + chunk.duration_seconds
        longest = max(SHOTS, key=lambda shot: min(shot.end, end) - max(shot.start, chunk.start_seconds))
        assert longest.scene.place in {tag.text for tag in chunk.tags}
