"""Answers of a service about made-up videos."""

from itertools import pairwise

from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, ChunkResult, Scene, StageTiming, Timing, Usage
from videoanalysis.v1.decoder_pb2 import CaptionScore, SceneChange, TagScore, TextBankInfo
from videoanalysis.v1.encoder_pb2 import ModelInfo
from videoanalysis.video_analysis import VideoAnalysis


def answer(
    *,
    seconds: float = 20.0,
    cuts: tuple[float, ...] = (3.4, 12.04),
    chunk_seconds: float = 10.0,
    frames: int = 4,
    tags: tuple[str, ...] = ("beach", "forest"),
    caption: str = "Waves on the sand",
    scores: bool = True,
) -> AnalyzeVideoResponse:
    """Of `frames` sampled frames in each chunk, the first one at or after each cut scores 0.5 and the others 0.05."""
    texts = [TagScore(text=text, score=0.1, probability=0.75) for text in tags]
    said = CaptionScore(text=caption, score=0.12, probability=0.5)
    of_video = [
        TagScore(text=text, score=0.1, probability=0.75, max_probability=0.9, peak_seconds=7.72) for text in tags
    ]
    starts = [index * chunk_seconds for index in range(int(-(-seconds // chunk_seconds)))]
    made = AnalyzeVideoResponse(
        stream_id="0123abcd",
        tags=of_video,
        caption=CaptionScore(text=caption, score=0.12, probability=0.5, max_probability=0.8, peak_seconds=7.72),
        video_duration_seconds=seconds,
        timing=Timing(
            download=StageTiming(queue_seconds=0.5, compute_seconds=0.25),
            sample=StageTiming(queue_seconds=0.125, compute_seconds=1),
            encode=StageTiming(queue_seconds=0.75, compute_seconds=1.25),
            decode=StageTiming(queue_seconds=0, compute_seconds=0.0625),
            unattributed_seconds=0.0625,
            total_seconds=4,
        ),
        usage=Usage(bytes_read=1_500_000, frames_decoded=480, accelerator_seconds=0.25, frames_encoded=16),
        model=ModelInfo(model_id="hub/model", digest="sha256:0123456789abcdef", engine="siglip", image_size=384),
        text_bank=TextBankInfo(name="places", digest="sha256:fedcba9876543210", tags=20, descriptions=40),
    )
    previous = 0.0
    for index, start in enumerate(starts):
        length = min(chunk_seconds, seconds - start)
        chunk = ChunkResult(chunk_index=index, start_seconds=start, duration_seconds=length, tags=texts, caption=said)
        for frame_index in range(frames):
            time = start + frame_index * length / frames
            crossed = [cut for cut in cuts if previous < cut <= time]
            chunk.frame_times_seconds.append(time)
            if scores:
                chunk.scene_scores.append(0.5 if crossed else 0.05)
            if crossed:
                change = SceneChange(
                    timestamp_seconds=time,
                    previous_timestamp_seconds=previous,
                    cut_seconds=crossed[0],
                    cut_confidence=0.875,
                    score=0.5,
                    chunk_index=index,
                    frame_index=frame_index,
                )
                chunk.scene_changes.append(change)
                made.scene_changes.append(change)
            previous = time
        made.chunks.append(chunk)
    edges = [0.0, *(change.cut_seconds for change in made.scene_changes), seconds]
    for start, end in pairwise(edges):
        made.scenes.append(Scene(start_seconds=start, end_seconds=end, tags=texts, caption=said))
    return made


def analysis(**arguments: object) -> VideoAnalysis:
    return VideoAnalysis.from_message(answer(**arguments))
