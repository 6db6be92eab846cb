"""The answer for the whole video, accumulated from the results of its chunks."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.ingress.admission import Deadline
from services.ingress.answer.shots import SceneEnd
from services.ingress.answer.text_shares import TextShare, TextShares
from videoanalysis import tensors
from videoanalysis.scores import LEADING_CAPTIONS, LEADING_TAGS
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, Scene
from videoanalysis.v1.decoder_pb2 import (
    CaptionScore,
    DecodeChunkResponse,
    RankingSpec,
    RankTextsRequest,
    RankTextsResponse,
    RankVideoRequest,
    RankVideoResponse,
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
    # Of the texts in the scenes that have ended.
    tags: tuple[TextShare, ...]
    captions: tuple[TextShare, ...]
    seconds_of_other_tags: float
    seconds_of_other_captions: float


class TextRanker(Protocol):
    """The calls to decoders that a summary makes."""

    async def rank(self, request: RankTextsRequest, deadline: Deadline) -> RankTextsResponse: ...

    async def rank_video(self, request: RankVideoRequest, deadline: Deadline) -> RankVideoResponse: ...


class Summary:
    """Takes the chunks of a video in order, from `start` seconds on; scenes but the last have `min_scene_seconds`.

    With the `state` of another summary it continues exactly from there.

    Sums are rounded to float32 after each chunk, since that is how they travel in a resume token. Over the 2160 chunks
    of six hours this costs scores less than 1e-6.

    A text's probability for the video is the mean of its probabilities in the scenes, weighted by their duration; its
    score is its product with the duration-weighted mean of the chunk embeddings, which is not renormalised: this is the
    weighted mean of its scores in all chunks.
    """

    def __init__(
        self,
        decoders: TextRanker,
        ranking: RankingSpec,
        state: SummaryState | None = None,
        *,
        start: Fraction = Fraction(0),
        min_scene_seconds: float = 0.0,
    ) -> None:
        self._decoders = decoders
        self._ranking = ranking
        nothing = np.zeros((), np.float32)
        state = state or SummaryState(Fraction(0), nothing, float(start), nothing, (), (), 0.0, 0.0)
        self._start = start
        self._min_scene_seconds = min_scene_seconds
        self._duration = state.duration
        self._embedding_sum = state.embedding_sum
        self._scene_start = state.scene_start
        self._scene_sum = state.scene_sum
        self._tags = TextShares(LEADING_TAGS, state.tags, state.seconds_of_other_tags)
        self._captions = TextShares(LEADING_CAPTIONS, state.captions, state.seconds_of_other_captions)

    def state(self) -> SummaryState:
        return SummaryState(
            duration=self._duration,
            embedding_sum=self._embedding_sum,
            scene_start=self._scene_start,
            scene_sum=self._scene_sum,
            tags=self._tags.items(),
            captions=self._captions.items(),
            seconds_of_other_tags=self._tags.seconds_of_others,
            seconds_of_other_captions=self._captions.seconds_of_others,
        )

    async def add(
        self,
        duration: Fraction,
        frames: NDArray[np.float32],
        decoded: DecodeChunkResponse,
        scene_ends: Sequence[SceneEnd],
        deadline: Deadline,
    ) -> list[Scene]:
        """Adds the next chunk: its duration in seconds, the embeddings of its `frames` [n, D], the decoder's response,
        and where scenes end in it.

        Returns the scenes that end in it; calls the decoders only if there are any.
        """
        scene_ends = self._of_long_scenes(scene_ends)
        pooled = tensors.from_proto(decoded.pooled_embedding)
        self._embedding_sum = _rounded(self._embedding_sum + float(duration) * pooled.astype(np.float64))
        self._duration += duration
        edges = [0, *(end.frame_index for end in scene_ends), len(frames)]
        before, *after = [frames[start:end].sum(axis=0, dtype=np.float64) for start, end in pairwise(edges)]
        *ended, unfinished = [_rounded(total) for total in (self._scene_sum + before, *after)]
        scenes = await self._scenes_between(ended, [end.seconds for end in scene_ends], deadline)
        self._scene_sum = unfinished
        return scenes

    def _of_long_scenes(self, scene_ends: Sequence[SceneEnd]) -> list[SceneEnd]:
        """Those of `scene_ends` at which the scene has lasted `min_scene_seconds`."""
        kept: list[SceneEnd] = []
        for end in scene_ends:
            start = kept[-1].seconds if kept else self._scene_start
            if end.seconds - start >= self._min_scene_seconds:
                kept.append(end)
        return kept

    async def answer(self, deadline: Deadline) -> AnalyzeVideoResponse:
        """Tags, caption and duration of the video, and its last scene; the rest of the message is left empty."""
        duration, end = float(self._duration), float(self._start + self._duration)
        last = await self._scenes_between([self._scene_sum], [end], deadline)
        request = RankVideoRequest(
            embedding=tensors.to_proto((self._embedding_sum / duration).astype(np.float32)),
            ranking=self._ranking,
            tags=self._tags.probabilities(duration),
            captions=self._captions.probabilities(duration),
        )
        video = await self._decoders.rank_video(request, deadline)
        for tag, position in zip(video.tags, video.tag_positions, strict=True):
            _add_peak(tag, self._tags, position, duration)
        if video.HasField("caption"):
            _add_peak(video.caption, self._captions, video.caption_position, duration)
        return AnalyzeVideoResponse(
            tags=video.tags,
            caption=video.caption if video.HasField("caption") else None,
            scenes=last,
            video_duration_seconds=end,
        )

    async def _scenes_between(
        self, sums: Sequence[NDArray[np.float32]], ends: Sequence[float], deadline: Deadline
    ) -> list[Scene]:
        """From the unfinished scene on, one for each of `sums`, up to each of `ends`."""
        if not ends:
            return []
        rows = np.stack([_normalised(total) for total in sums])
        request = RankTextsRequest(embeddings=tensors.to_proto(rows), ranking=self._ranking)
        rankings = (await self._decoders.rank(request, deadline)).rankings
        times = pairwise([self._scene_start, *ends])
        self._scene_start = ends[-1]
        return [self._scene(start, end, ranking) for (start, end), ranking in zip(times, rankings, strict=True)]

    def _scene(self, start: float, end: float, ranking: TextRanking) -> Scene:
        self._tags.add(start, end, ranking.leading_tags)
        self._captions.add(start, end, ranking.leading_captions)
        caption = ranking.caption if ranking.HasField("caption") else None
        return Scene(start_seconds=start, end_seconds=end, tags=ranking.tags, caption=caption)


def _add_peak(text: TagScore | CaptionScore, shares: TextShares, position: int, duration: float) -> None:
    share = shares.of(position)
    text.max_probability = share.max_probability
    text.peak_seconds = share.peak_seconds
    text.uncertainty = min(1 - text.probability, shares.uncertain_seconds(position) / duration)


def _rounded(total: NDArray[np.floating]) -> NDArray[np.float32]:
    return total.astype(np.float32)


def _normalised(total: NDArray[np.float32]) -> NDArray[np.float32]:
    """`total` at unit length; zeros, which resemble no text, if its frames cancel out."""
    length = float(np.linalg.norm(total.astype(np.float64)))
    return (total / length if length > _SHORTEST else np.zeros_like(total)).astype(np.float32)
