import numpy as np
import pytest

from tests.analyses import analysis, answer
from videoanalysis import tensors
from videoanalysis.errors import InvalidInput
from videoanalysis.v1 import analysis_pb2
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, ChunkResult
from videoanalysis.v1.decoder_pb2 import SceneChange, TagScore
from videoanalysis.v1.tensor_pb2 import Tensor
from videoanalysis.video_analysis import Caption, Progress, StageTiming, Tag, VideoAnalysis


def test_texts_of_the_whole_video_know_where_they_fit_best_and_others_do_not():
    found = analysis(tags=("beach",))
    assert found.tags == (Tag("beach", 0.1, 0.75, max_probability=0.9, peak_seconds=7.72),)
    assert found.caption == Caption("Waves on the sand", 0.12, 0.5, max_probability=0.8, peak_seconds=7.72)
    assert found.scenes[0].tags == found.chunks[0].tags == (Tag("beach", 0.1, 0.75),)
    assert found.scenes[0].caption == found.chunks[0].caption == Caption("Waves on the sand", 0.12, 0.5)


def test_a_text_whose_best_scene_is_not_known_has_none():
    outdone = TagScore(text="beach", score=0.1, probability=0.75)
    (tag,) = VideoAnalysis.from_message(AnalyzeVideoResponse(tags=[outdone])).tags
    assert (tag.max_probability, tag.peak_seconds) == (None, None)


def test_chunks_and_scenes_are_as_they_were_answered():
    found = analysis(seconds=15, cuts=(12.04,))
    assert [(chunk.chunk_index, chunk.start_seconds, chunk.duration_seconds) for chunk in found.chunks] == [
        (0, 0, 10),
        (1, 10, 5),
    ]
    assert found.chunks[1].frame_times_seconds == (10, 11.25, 12.5, 13.75)
    assert found.chunks[1].scene_scores == (0.05, 0.05, 0.5, 0.05)
    assert found.chunks[1].scene_changes == found.scene_changes
    assert [(scene.start_seconds, scene.end_seconds) for scene in found.scenes] == [(0, 12.04), (12.04, 15)]
    assert [found.scene_at(seconds) for seconds in (12, 12.04, 15)] == [*found.scenes, None]


def test_a_cut_is_where_the_service_found_it_or_at_the_first_frame_after_it():
    found, roughly = SceneChange(timestamp_seconds=3.75, cut_seconds=3.4), SceneChange(timestamp_seconds=3.75)
    changes = VideoAnalysis.from_message(AnalyzeVideoResponse(scene_changes=[found, roughly])).scene_changes
    assert [change.cut_seconds for change in changes] == [3.4, 3.75]
    assert [change.timestamp_seconds for change in changes] == [3.75, 3.75]


def test_embeddings_are_an_array_and_none_if_not_requested():
    sent = np.arange(6, dtype=np.float16).reshape(2, 3)
    chunks = [ChunkResult(embeddings=tensors.to_proto(sent)), ChunkResult()]
    first, second = VideoAnalysis.from_message(AnalyzeVideoResponse(chunks=chunks)).chunks
    assert first.embeddings.dtype == np.float16
    np.testing.assert_array_equal(first.embeddings, sent)
    assert second.embeddings is None


def test_embeddings_that_do_not_fill_their_shape_are_an_error():
    chunk = ChunkResult(embeddings=Tensor(element_type=1, shape=[2, 3], data=b"short"))
    with pytest.raises(InvalidInput, match="embeddings"):
        VideoAnalysis.from_message(AnalyzeVideoResponse(chunks=[chunk]))


def test_without_a_bank_there_is_neither_bank_nor_caption():
    found = VideoAnalysis.from_message(AnalyzeVideoResponse())
    assert (found.text_bank, found.caption) == (None, None)


def test_stages_come_in_the_order_in_which_a_video_walks_them():
    timing = analysis().timing
    assert [name for name, _ in timing.stages()] == ["download", "sample", "encode", "decode"]
    assert dict(timing.stages())["encode"] == StageTiming(queue_seconds=0.75, compute_seconds=1.25)


def test_the_message_stays_within_reach():
    message = answer()
    assert VideoAnalysis.from_message(message).message is message


def test_equal_answers_are_equal():
    assert analysis() == analysis()
    assert analysis() != analysis(caption="Something else")


@pytest.mark.parametrize(
    ("stage", "name"),
    [("STAGE_WAITING", "waiting"), ("STAGE_DOWNLOADING", "downloading"), ("STAGE_ANALYZING", "analyzing")],
)
def test_progress_names_its_stage(stage, name):
    message = analysis_pb2.Progress(
        stage=stage, downloaded_bytes=1, total_bytes=2, analyzed_seconds=3, estimated_wait_seconds=4
    )
    assert Progress.from_message(message) == Progress(name, 1, 2, 3, 0, 4)


def test_every_field_of_an_answer_has_its_place():
    """What the contract gains must be taken over, or left out by decision."""
    for message, value in [
        (AnalyzeVideoResponse, analysis()),
        (ChunkResult, analysis().chunks[0]),
        (SceneChange, analysis().scene_changes[0]),
        (analysis_pb2.Scene, analysis().scenes[0]),
        (analysis_pb2.Timing, analysis().timing),
        (analysis_pb2.Usage, analysis().usage),
        (analysis_pb2.Progress, Progress("waiting", 0, 0, 0, 0)),
    ]:
        missing = {field.name for field in message.DESCRIPTOR.fields} - set(type(value).__slots__)
        assert not missing, message.DESCRIPTOR.name
