import pytest

from services.ingress.answer.size import LargestSizes, check_event, check_unary
from services.ingress.job import read_request
from services.ingress.resume.token import MAX_TOKEN_BYTES
from videoanalysis.errors import InvalidInput
from videoanalysis.limits import MAX_MESSAGE_BYTES
from videoanalysis.v1 import analysis_pb2 as pb
from videoanalysis.v1.decoder_pb2 import SCENE_DETECTION_EVERY_FRAME, CaptionScore, SceneChange, TagScore, TextBankInfo
from videoanalysis.v1.encoder_pb2 import ModelInfo
from videoanalysis.v1.error_reason_pb2 import ErrorReason
from videoanalysis.v1.tensor_pb2 import Tensor

DIMENSIONS, LONGEST = 1152, 60
# No encoding of a double or of a 32-bit integer is longer than that of these.
NUMBER, INTEGER = 0.1, 2**32 - 1


def fullest_answer(request: pb.AnalyzeVideoRequest, seconds: float) -> pb.AnalyzeVideoResponse:
    """An answer with everything in it that could be, made of messages and not of arithmetic."""
    frames = request.frames_per_chunk or 16
    duration = request.chunk_duration_seconds or 10
    text = "x" * LONGEST
    scores = {"text": text, "score": NUMBER, "probability": NUMBER}
    tags = [TagScore(**scores)] * (request.top_k_tags or 5)
    caption = CaptionScore(**scores)
    of_video = scores | {"max_probability": NUMBER, "peak_seconds": NUMBER, "uncertainty": NUMBER}
    change = SceneChange(
        timestamp_seconds=NUMBER,
        previous_timestamp_seconds=NUMBER,
        score=NUMBER,
        chunk_index=INTEGER,
        frame_index=INTEGER,
        cut_seconds=NUMBER,
        cut_confidence=NUMBER,
    )
    every_frame = request.scene_detection == SCENE_DETECTION_EVERY_FRAME
    per_chunk = frames if every_frame else min(frames, int(duration))
    detected = request.cut_detection != pb.CUT_DETECTION_OFF
    shots_per_chunk = int(4 * min(duration, seconds)) if detected else 0
    cut = pb.Cut(time_seconds=NUMBER, previous_frame_seconds=NUMBER, strength=NUMBER, coarse=True)
    transition = pb.Transition(start_seconds=NUMBER, end_seconds=NUMBER, kind=pb.Transition.KIND_DISSOLVE)
    chunk = pb.ChunkResult(
        chunk_index=INTEGER,
        start_seconds=NUMBER,
        duration_seconds=NUMBER,
        frame_times_seconds=[NUMBER] * frames,
        tags=tags,
        caption=caption,
        scene_changes=[change] * per_chunk,
        scene_scores=[NUMBER] * frames if request.include_scene_scores else [],
        cuts=[cut] * shots_per_chunk,
        transitions=[transition] * shots_per_chunk,
    )
    if request.include_embeddings:
        chunk.embeddings.CopyFrom(
            Tensor(element_type=2, shape=[frames, DIMENSIONS], data=b"x" * frames * DIMENSIONS * 2)
        )
    chunks = -(-int(seconds) // int(duration))
    changes = per_chunk * chunks
    scene = pb.Scene(start_seconds=NUMBER, end_seconds=NUMBER, tags=tags, caption=caption)
    return pb.AnalyzeVideoResponse(
        stream_id="x" * 200,
        tags=[TagScore(**of_video)] * len(tags),
        caption=CaptionScore(**of_video),
        scene_changes=[change] * changes,
        scenes=[scene] * (changes + 1),
        cuts=[cut] * int(4 * seconds) if detected else [],
        transitions=[transition] * int(4 * seconds) if detected else [],
        chunks=[chunk] * chunks,
        video_duration_seconds=NUMBER,
        model=ModelInfo(model_id="x" * 200, digest="x" * 71),
    )


def sizes(request: pb.AnalyzeVideoRequest, longest: int = LONGEST) -> LargestSizes:
    model, text_bank = ModelInfo(embedding_dim=DIMENSIONS), TextBankInfo(longest_text_bytes=longest)
    return LargestSizes(read_request(request), model, text_bank)


@pytest.mark.parametrize("seconds", [4.0, 60.0, 3600.0])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"include_embeddings": True, "include_scene_scores": True},
        {"scene_detection": SCENE_DETECTION_EVERY_FRAME, "frames_per_chunk": 64, "chunk_duration_seconds": 5},
        {"top_k_tags": 100, "frames_per_chunk": 1, "chunk_duration_seconds": 1},
        {"cut_detection": pb.CUT_DETECTION_OFF},
    ],
)
def test_no_answer_is_larger_than_the_bound_and_the_bound_is_not_much_larger(options, seconds):
    request = pb.AnalyzeVideoRequest(**options)
    bound = sizes(request).answer(seconds)
    fullest = fullest_answer(request, seconds).ByteSize()
    assert fullest <= bound <= 1.5 * fullest + 8192


def test_an_hour_with_usual_texts_fits_into_one_message():
    check_unary(sizes(pb.AnalyzeVideoRequest(), longest=45).answer(3600))


def test_an_answer_that_does_not_fit_is_refused_with_the_remedy():
    check_unary(MAX_MESSAGE_BYTES)
    with pytest.raises(InvalidInput, match="StreamAnalyzeVideo") as caught:
        check_unary(MAX_MESSAGE_BYTES + 1)
    assert caught.value.reason == ErrorReason.RESPONSE_TOO_LARGE


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"include_embeddings": True, "include_scene_scores": True, "frames_per_chunk": 64},
        {"scene_detection": SCENE_DETECTION_EVERY_FRAME, "frames_per_chunk": 64, "chunk_duration_seconds": 5},
        {"top_k_tags": 100, "chunk_duration_seconds": 600, "frames_per_chunk": 64},
    ],
)
def test_no_event_is_larger_than_the_bound(options):
    request = pb.AnalyzeVideoRequest(**options)
    (chunk,) = (answer := fullest_answer(request, request.chunk_duration_seconds or 10)).chunks
    scenes = answer.scenes[: len(chunk.scene_changes)]
    event = pb.StreamAnalyzeVideoResponse(chunk=chunk, finished_scenes=scenes, resume_token=b"x" * MAX_TOKEN_BYTES)
    assert event.ByteSize() <= sizes(request).event() <= 1.5 * event.ByteSize() + 8192


def test_scenes_that_do_not_fit_into_the_event_of_their_chunk_are_refused_by_field():
    labels = [f"{index:03}" + "\U0001f600" * 197 for index in range(100)]
    request = pb.AnalyzeVideoRequest(
        labels=labels, top_k_tags=100, frames_per_chunk=64, scene_detection=SCENE_DETECTION_EVERY_FRAME
    )
    with pytest.raises(InvalidInput) as caught:
        check_event(sizes(request).event())
    assert caught.value.field == "top_k_tags"
    request.top_k_tags = 10
    check_event(sizes(request).event())
