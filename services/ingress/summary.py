"""The answer for the whole video, from what each chunk leaves behind."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from services.ingress.deadline import Deadline
from services.ingress.decoders import Decoders
from videoanalysis import tensors
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, Scene
from videoanalysis.v1.decoder_pb2 import (
    CaptionScore,
    RankingSpec,
    RankTextsRequest,
    SceneChange,
    TagScore,
    TextRanking,
    TextSelection,
)

_ROWS_PER_CALL = 256
# The mean of unit vectors shorter than this is rounding noise: they cancel each other.
_SHORTEST = 1e-6


class Summary:
    """Takes the chunks of a video in order.

    A text's score for the video is its product with the duration-weighted mean of the chunk embeddings, which is not
    renormalised: so it is the weighted mean of its scores in all chunks, not only where it was among the best.
    """

    def __init__(self) -> None:
        self._pooled: list[NDArray[np.float32]] = []
        self._weighted: NDArray[np.float64] = np.zeros(())
        self._duration = Fraction(0)
        self._changes: list[SceneChange] = []
        # Sums of the frames from one scene change to the next.
        self._scene_sums: list[NDArray[np.float64]] = []

    def add(
        self,
        duration: Fraction,
        frames: NDArray[np.float32],
        pooled: NDArray[np.float32],
        changes: Sequence[SceneChange],
    ) -> None:
        """A chunk: its length in seconds, `frames` [n, D], their normalised mean `pooled` [D], the changes within."""
        self._pooled.append(pooled)
        self._weighted = self._weighted + float(duration) * pooled.astype(np.float64)
        self._duration += duration
        self._changes += changes
        edges = [0, *(change.frame_index for change in changes), len(frames)]
        before, *after = [frames[start:end].sum(axis=0, dtype=np.float64) for start, end in pairwise(edges)]
        if self._scene_sums:
            self._scene_sums[-1] = self._scene_sums[-1] + before
        else:
            self._scene_sums.append(before)
        self._scene_sums += after

    async def rank(self, decoders: Decoders, ranking: RankingSpec, deadline: Deadline) -> AnalyzeVideoResponse:
        """Tags, caption, scene changes, scenes and duration of the video; the rest of the message is left empty."""
        mean = (self._weighted / float(self._duration)).astype(np.float32)
        scene_means = [_normalised(total) for total in self._scene_sums]
        video, *scenes = await _rank(decoders, [mean, *scene_means], ranking, deadline)
        only = TextSelection(
            tags=[tag.text for tag in video.tags], captions=[caption.text for caption in video.captions]
        )
        if only.tags or only.captions:
            _add_best_chunks(video, await _rank(decoders, self._pooled, ranking, deadline, only))
        starts = [0.0, *(change.cut_seconds for change in self._changes)]
        ends = [*starts[1:], float(self._duration)]
        return AnalyzeVideoResponse(
            tags=video.tags,
            caption=_caption(video),
            scene_changes=self._changes,
            scenes=[
                Scene(start_seconds=start, end_seconds=end, tags=scene.tags, caption=_caption(scene))
                for start, end, scene in zip(starts, ends, scenes, strict=True)
            ],
            video_duration_seconds=float(self._duration),
        )


async def _rank(
    decoders: Decoders,
    rows: Sequence[NDArray[np.float32]],
    ranking: RankingSpec,
    deadline: Deadline,
    only: TextSelection | None = None,
) -> list[TextRanking]:
    """One ranking for each row [D]."""
    rankings: list[TextRanking] = []
    for start in range(0, len(rows), _ROWS_PER_CALL):
        embeddings = tensors.to_proto(np.stack(rows[start : start + _ROWS_PER_CALL]))
        request = RankTextsRequest(embeddings=embeddings, ranking=ranking, only=only)
        rankings += (await decoders.rank(request, deadline)).rankings
    return rankings


def _add_best_chunks(video: TextRanking, chunks: list[TextRanking]) -> None:
    """Write into each text of `video` the chunk in which it scored highest, the first of equals."""
    best: dict[tuple[str, str], tuple[int, TagScore | CaptionScore]] = {}
    for index, chunk in enumerate(chunks):
        scored = [("tag", score) for score in chunk.tags] + [("caption", score) for score in chunk.captions]
        for kind, score in scored:
            if (kind, score.text) not in best or score.score > best[kind, score.text][1].score:
                best[kind, score.text] = index, score
    for kind, score in [("tag", tag) for tag in video.tags] + [("caption", caption) for caption in video.captions]:
        score.best_chunk_index, score.max_probability = best[kind, score.text][0], best[kind, score.text][1].probability


def _caption(ranking: TextRanking) -> CaptionScore | None:
    return ranking.captions[0] if ranking.captions else None


def _normalised(total: NDArray[np.float64]) -> NDArray[np.float32]:
    """`total` at unit length; zeros, which resemble no text, if its frames cancel out."""
    length = float(np.linalg.norm(total))
    return (total / length if length > _SHORTEST else np.zeros_like(total)).astype(np.float32)
