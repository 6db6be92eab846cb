from fractions import Fraction

import pytest

from services.ingress.job import is_every_frame, read_request
from videoanalysis.errors import InvalidInput
from videoanalysis.v1.analysis_pb2 import PRIORITY_BATCH, PRIORITY_INTERACTIVE, AnalyzeVideoRequest
from videoanalysis.v1.decoder_pb2 import SCENE_DETECTION_EVERY_FRAME


def test_an_empty_request_means_the_documented_defaults():
    analysis = read_request(AnalyzeVideoRequest())
    assert analysis.frames_per_chunk == 16
    assert analysis.chunk_duration == 10
    assert analysis.top_k_tags == 5
    assert analysis.text_bank == "default"
    assert analysis.labels == ()
    assert not is_every_frame(analysis.scene)
    assert (analysis.scene.threshold, analysis.scene.ema_alpha) == (0.15, 0.9)
    assert analysis.min_probability is None


def test_a_least_probability_of_zero_is_not_that_of_the_bank():
    assert read_request(AnalyzeVideoRequest(min_probability=0)).min_probability == 0


def test_a_request_without_an_id_gets_one_of_its_own():
    ids = {read_request(AnalyzeVideoRequest()).stream_id for _ in range(10)}
    assert len(ids) == 10
    assert read_request(AnalyzeVideoRequest(stream_id="camera 7")).stream_id == "camera 7"


def test_a_duration_is_read_as_the_decimal_it_was_written_as():
    assert read_request(AnalyzeVideoRequest(chunk_duration_seconds=3.3)).chunk_duration == Fraction(33, 10)
    assert read_request(AnalyzeVideoRequest(chunk_duration_seconds=1e2)).chunk_duration == 100


def test_a_request_is_interactive_by_default():
    assert read_request(AnalyzeVideoRequest()).priority == PRIORITY_INTERACTIVE
    assert read_request(AnalyzeVideoRequest(priority=PRIORITY_BATCH)).priority == PRIORITY_BATCH


def test_every_frame_detection_is_requested_by_name():
    request = AnalyzeVideoRequest(scene_detection=SCENE_DETECTION_EVERY_FRAME)
    assert is_every_frame(read_request(request).scene)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("frames_per_chunk", [0, 65, 2**32 - 1]),
        ("chunk_duration_seconds", [0, 0.5, -10, 601, float("nan"), float("inf")]),
        ("top_k_tags", [0, 101]),
        ("min_probability", [-0.1, 1.1, float("nan")]),
        ("sampling_tolerance_seconds", [-0.1, 5.1, float("nan"), float("inf")]),
        ("reuse_difference", [-0.1, 1.1, float("nan")]),
        ("min_scene_seconds", [-0.1, 600.1, float("nan")]),
        ("start_seconds", [-0.1, 1_000_001, float("nan"), float("inf")]),
        ("end_seconds", [-0.1, 1_000_001, float("nan"), float("inf")]),
        ("scene_threshold", [0, -0.1, 2.1, float("nan"), float("inf")]),
        ("ema_alpha", [0, -0.1, 1, 1.5, float("nan")]),
        ("scene_detection", [99]),
        ("priority", [99]),
        ("stream_id", ["x" * 201, "line\nbreak"]),
        ("labels", [["a", "a"], [""], [" "], ["x" * 201], ["a\nb"], [str(i) for i in range(257)]]),
        ("text_bank", ["x" * 101, "../default", "a b", "name\n"]),
    ],
)
def test_the_error_names_the_field_that_is_out_of_range(field, values):
    for value in values:
        with pytest.raises(InvalidInput) as caught:
            read_request(AnalyzeVideoRequest(**{field: value}))
        assert caught.value.field == field
        assert caught.value.message.startswith(f"{field}: ")


def test_the_error_lists_every_field_that_is_out_of_range():
    request = AnalyzeVideoRequest(stream_id="x" * 201, frames_per_chunk=65, top_k_tags=101, labels=["a", "a"])
    with pytest.raises(InvalidInput) as caught:
        read_request(request)
    fields = ["stream_id", "frames_per_chunk", "top_k_tags", "labels"]
    assert [violation.field for violation in caught.value.violations] == fields


@pytest.mark.parametrize(
    "limits",
    [
        {"frames_per_chunk": 1, "chunk_duration_seconds": 1, "top_k_tags": 1, "scene_threshold": 2, "ema_alpha": 1e-9},
        {"frames_per_chunk": 64, "chunk_duration_seconds": 600, "top_k_tags": 100, "min_probability": 1},
        {"labels": [str(i) for i in range(256)], "stream_id": "x" * 200},
        {"sampling_tolerance_seconds": 5, "reuse_difference": 1},
        {"start_seconds": 999_999, "end_seconds": 1_000_000},
        {"end_seconds": 0.001},
    ],
)
def test_every_limit_is_accepted(limits):
    read_request(AnalyzeVideoRequest(**limits))


@pytest.mark.parametrize("end", [3, 2.9, 3.0001])
def test_a_range_must_not_be_empty(end):
    with pytest.raises(InvalidInput, match="above start_seconds"):
        read_request(AnalyzeVideoRequest(start_seconds=3, end_seconds=end))


def test_the_analysed_part_of_a_video_ends_with_it():
    part = read_request(AnalyzeVideoRequest(start_seconds=3, end_seconds=8))
    assert [part.analysed_seconds(seconds) for seconds in (0, 5, 100)] == [0, 2, 5]
