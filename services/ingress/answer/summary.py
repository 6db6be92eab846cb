"""The answer for the whole video, accumulated from the results of its chunks."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.ingress.admission import Deadline
from services.ingress.answer.top_texts import BestChunk, TopTexts
from videoanalysis import tensors
from videoanalysis.scores import LEADING_CAPTIONS, LEADING_TAGS, Calibration
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, Scene
from videoanalysis.v1.decoder_pb2 import (
    CaptionScore,
    DecodeChunkResponse,
    RankingSpec,
    RankTextsRequest,
    RankTextsResponse,
    SceneChange,
    TagScore,
    TextRanking,
)

# The mean of unit vectors shorter than this is rounding noise: they cancel each other.
_SHORTEST = 1e-6


@dataclass(frozen=True, slots=True)
class SummaryState:
    """What the chunks so far contribute; of bounded size, however long the video is."""

    duration: Fraction  # seconds
    embedding_sum: NDArray[np.float32]  # [D], of the chunk embeddings times their seconds
    scene_start: float  # seconds; of the scene that has not ended
    scene_sum: NDArray[np.float32]  # [D], of its frames
    top_tags: tuple[tuple[int, BestChunk], ...]
    top_captions: tuple[tuple[int, BestChunk], ...]


class TextRanker(Protocol):
    """The decoders, as far as a summary needs them."""

    async def rank(self, request: RankTextsRequest, deadline: Deadline) -> RankTextsResponse: ...


class Summary:
    """Takes the chunks of a video in order; with the `state` of another summary it continues exactly from there.

    Sums are rounded to float32 after each chunk, since that is how they travel in a resume token. Over the 2160 chunks
    of six hours this costs scores less than 1e-6.

    A text's score for the video is its product with the duration-weighted mean of the chunk embeddings, which is not
    renormalised: this is the weighted mean of its scores in all chunks, not only in those where it was among the best.
    """

    def __init__(self, decoders: TextRanker, ranking: RankingSpec, state: SummaryState | None = None) -> None:
        self._decoders = decoders
        self._ranking = ranking
        self._calibration = Calibration(ranking.logit_scale, ranking.logit_bias)
        nothing = np.zeros((), np.float32)
        state = state or SummaryState(Fraction(0), nothing, 0.0, nothing, (), ())
        self._duration = state.duration
        self._embedding_sum = state.embedding_sum
        self._scene_start = state.scene_start
        self._scene_sum = state.scene_sum
        self._top_tags = TopTexts(LEADING_TAGS, state.top_tags)
        self._top_captions = TopTexts(LEADING_CAPTIONS, state.top_captions)
        self._changes: list[SceneChange] = []
        self._scenes: list[Scene] = []

    def state(self) -> SummaryState:
        return SummaryState(
            duration=self._duration,
            embedding_sum=self._embedding_sum,
            scene_start=self._scene_start,
            scene_sum=self._scene_sum,
            top_tags=tuple(self._top_tags.items()),
            top_captions=tuple(self._top_captions.items()),
        )

    async def add(
        self,
        chunk_index: int,
        duration: Fraction,
        frames: NDArray[np.float32],
        decoded: DecodeChunkResponse,
        deadline: Deadline,
    ) -> list[Scene]:
        """Adds a chunk: its duration in seconds, the embeddings of its `frames` [n, D] and the decoder's response.

        Returns the scenes that end in it; calls the decoders only if there are any.
        """
        pooled = tensors.from_proto(decoded.pooled_embedding)
        self._embedding_sum = _rounded(self._embedding_sum + float(duration) * pooled.astype(np.float64))
        self._duration += duration
        self._top_tags.add(chunk_index, decoded.leading_tags)
        self._top_captions.add(chunk_index, decoded.leading_captions)
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

        After resuming, scene changes and scenes are those since then.
        """
        mean = (self._embedding_sum / float(self._duration)).astype(np.float32)
        video, last = await self._rank([mean, _normalised(self._scene_sum)], deadline)
        for tag, position in zip(video.tags, video.tag_positions, strict=True):
            self._add_best_chunk(tag, self._top_tags.of(position))
        if video.HasField("caption"):
            self._add_best_chunk(video.caption, self._top_captions.of(video.caption_position))
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

    def _add_best_chunk(self, text: TagScore | CaptionScore, best: BestChunk | None) -> None:
        if best is not None:
            text.best_chunk_index = best.chunk_index
            text.max_probability = self._calibration.probability(best.score)


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
