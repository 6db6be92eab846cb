"""The answer for the whole video, from what each chunk leaves behind."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from services.ingress.admission.deadline import Deadline
from services.ingress.answer.top_texts import Peak, TopTexts
from services.ingress.dispatch import Decoders
from videoanalysis import tensors
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, Scene
from videoanalysis.v1.decoder_pb2 import (
    CaptionScore,
    DecodeChunkResponse,
    RankingSpec,
    RankTextsRequest,
    SceneChange,
    TagScore,
    TextRanking,
)

# As many as a chunk tells, so that the peaks are true.
MAX_TAG_PEAKS, MAX_CAPTION_PEAKS = 112, 48
# The mean of unit vectors shorter than this is rounding noise: they cancel each other.
_SHORTEST = 1e-6


@dataclass(frozen=True, slots=True)
class SummaryState:
    """What the chunks so far mean for the rest of the video; of bounded size, however long it is."""

    duration: Fraction  # seconds
    embedding_sum: NDArray[np.float32]  # [D], of the chunk embeddings times their seconds
    scene_start: float  # seconds; of the scene that has not ended
    scene_sum: NDArray[np.float32]  # [D], of its frames
    tag_peaks: tuple[tuple[int, Peak], ...]
    caption_peaks: tuple[tuple[int, Peak], ...]


class Summary:
    """Takes the chunks of a video in order. One with the state of another goes on exactly where that stood.

    Sums are rounded to float32 after each chunk, since that is how they travel in a resume token. Over the 2160 chunks
    of six hours this costs scores less than 1e-6.

    A text's score for the video is its product with the duration-weighted mean of the chunk embeddings, which is not
    renormalised: so it is the weighted mean of its scores in all chunks, not only where it was among the best.
    """

    def __init__(self, decoders: Decoders, ranking: RankingSpec, state: SummaryState | None = None) -> None:
        self._decoders = decoders
        self._ranking = ranking
        nothing = np.zeros((), np.float32)
        state = state or SummaryState(Fraction(0), nothing, 0.0, nothing, (), ())
        self._duration = state.duration
        self._embedding_sum = state.embedding_sum
        self._scene_start = state.scene_start
        self._scene_sum = state.scene_sum
        self._tag_peaks = TopTexts(MAX_TAG_PEAKS, state.tag_peaks)
        self._caption_peaks = TopTexts(MAX_CAPTION_PEAKS, state.caption_peaks)
        self._changes: list[SceneChange] = []
        self._scenes: list[Scene] = []

    def state(self) -> SummaryState:
        return SummaryState(
            duration=self._duration,
            embedding_sum=self._embedding_sum,
            scene_start=self._scene_start,
            scene_sum=self._scene_sum,
            tag_peaks=tuple(self._tag_peaks.items()),
            caption_peaks=tuple(self._caption_peaks.items()),
        )

    async def add(
        self,
        chunk_index: int,
        duration: Fraction,
        frames: NDArray[np.float32],
        decoded: DecodeChunkResponse,
        deadline: Deadline,
    ) -> list[Scene]:
        """A chunk: its length in seconds, `frames` [n, D] and what was found in them.

        Returns the scenes that end in it; asks the decoders only if there are such.
        """
        pooled = tensors.from_proto(decoded.pooled_embedding)
        self._embedding_sum = _rounded(self._embedding_sum + float(duration) * pooled.astype(np.float64))
        self._duration += duration
        self._tag_peaks.add(chunk_index, decoded.leading_tags)
        self._caption_peaks.add(chunk_index, decoded.leading_captions)
        changes = decoded.scene_changes
        edges = [0, *(change.frame_index for change in changes), len(frames)]
        before, *after = [frames[start:end].sum(axis=0, dtype=np.float64) for start, end in pairwise(edges)]
        *ended, unfinished = [_rounded(total) for total in (self._scene_sum + before, *after)]
        scenes = await self._scenes_between(ended, [change.cut_seconds for change in changes], deadline)
        self._scene_sum = unfinished
        self._changes += changes
        self._scenes += scenes
        return scenes

    async def answer(self, deadline: Deadline) -> AnalyzeVideoResponse:
        """Tags, caption, scene changes, scenes and duration of the video; the rest of the message is left empty.

        Of changes and scenes those since the state with which this began.
        """
        mean = (self._embedding_sum / float(self._duration)).astype(np.float32)
        video, last = await self._rank([mean, _normalised(self._scene_sum)], deadline)
        for tag, position in zip(video.tags, video.tag_positions, strict=True):
            self._add_peak(tag, self._tag_peaks.of(position))
        if video.HasField("caption"):
            self._add_peak(video.caption, self._caption_peaks.of(video.caption_position))
        return AnalyzeVideoResponse(
            tags=video.tags,
            caption=_caption(video),
            scene_changes=self._changes,
            scenes=[*self._scenes, _scene(self._scene_start, float(self._duration), last)],
            video_duration_seconds=float(self._duration),
        )

    async def _scenes_between(
        self, sums: Sequence[NDArray[np.float32]], ends: Sequence[float], deadline: Deadline
    ) -> list[Scene]:
        """From the unfinished scene on, one for each of `sums`, up to each of `ends`."""
        if not ends:
            return []
        starts = [self._scene_start, *ends]
        rankings = await self._rank([_normalised(total) for total in sums], deadline)
        self._scene_start = ends[-1]
        return [_scene(start, end, ranking) for (start, end), ranking in zip(pairwise(starts), rankings, strict=True)]

    async def _rank(self, rows: Sequence[NDArray[np.float32]], deadline: Deadline) -> list[TextRanking]:
        """One ranking for each row [D]."""
        request = RankTextsRequest(embeddings=tensors.to_proto(np.stack(rows)), ranking=self._ranking)
        return list((await self._decoders.rank(request, deadline)).rankings)

    def _add_peak(self, text: TagScore | CaptionScore, peak: Peak | None) -> None:
        if peak is not None:
            text.best_chunk_index = peak.chunk_index
            text.max_probability = _sigmoid(self._ranking.logit_scale * peak.score + self._ranking.logit_bias)


def _scene(start: float, end: float, ranking: TextRanking) -> Scene:
    return Scene(start_seconds=start, end_seconds=end, tags=ranking.tags, caption=_caption(ranking))


def _caption(ranking: TextRanking) -> CaptionScore | None:
    return ranking.caption if ranking.HasField("caption") else None


def _rounded(total: NDArray[np.floating]) -> NDArray[np.float32]:
    return total.astype(np.float32)


def _normalised(total: NDArray[np.float32]) -> NDArray[np.float32]:
    """`total` at unit length; zeros, which resemble no text, if its frames cancel out."""
    length = float(np.linalg.norm(total.astype(np.float64)))
    return (total / length if length > _SHORTEST else np.zeros_like(total)).astype(np.float32)


def _sigmoid(logit: float) -> float:
    # exp of a negative number only: it cannot overflow.
    decay = math.exp(-abs(logit))
    return 1 / (1 + decay) if logit >= 0 else decay / (1 + decay)
