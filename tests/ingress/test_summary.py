from fractions import Fraction

import numpy as np
import pytest

from services.ingress.deadline import Deadline
from services.ingress.summary import Summary
from videoanalysis import tensors
from videoanalysis.v1.decoder_pb2 import (
    CaptionScore,
    RankingSpec,
    RankTextsRequest,
    RankTextsResponse,
    SceneChange,
    TagScore,
    TextRanking,
)

DIMENSIONS = 6
TAGS = ["kitchen", "office", "beach", "gym"]
CAPTIONS = ["Someone cooks", "Someone swims"]
SPEC = RankingSpec(model_digest="sha256:m", top_k_tags=2, logit_scale=10, logit_bias=-2)


def unit(*shape: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((*shape, DIMENSIONS))
    return (drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)).astype(np.float32)


TAG_ROWS, CAPTION_ROWS = unit(len(TAGS), seed=1), unit(len(CAPTIONS), seed=2)


def probability(score: float) -> float:
    return 1 / (1 + np.exp(-(SPEC.logit_scale * score + SPEC.logit_bias)))


class NumpyDecoders:
    """Ranks as the decoder's contract says, in float64."""

    def __init__(self) -> None:
        self.rows_per_call: list[int] = []

    async def rank(self, request: RankTextsRequest, deadline: Deadline) -> RankTextsResponse:
        rows = tensors.from_proto(request.embeddings).astype(np.float64)
        self.rows_per_call.append(len(rows))
        return RankTextsResponse(rankings=[self._ranking(row, request) for row in rows])

    def _ranking(self, row: np.ndarray, request: RankTextsRequest) -> TextRanking:
        selected = request.HasField("only")
        tags = self._best(row, TAGS, TAG_ROWS, list(request.only.tags) if selected else None, SPEC.top_k_tags)
        captions = self._best(row, CAPTIONS, CAPTION_ROWS, list(request.only.captions) if selected else None, 1)
        return TextRanking(tags=[TagScore(**tag) for tag in tags], captions=[CaptionScore(**c) for c in captions])

    def _best(self, row, texts, embeddings, only, top_k):
        scored = sorted(zip(embeddings.astype(np.float64) @ row, texts, strict=True), reverse=True)
        kept = scored[:top_k] if only is None else [item for item in scored if item[1] in only]
        return [{"text": text, "score": score, "probability": probability(score)} for score, text in kept]


def pooled(frames: np.ndarray) -> np.ndarray:
    mean = frames.mean(axis=0, dtype=np.float64)
    return (mean / np.linalg.norm(mean)).astype(np.float32)


def change(chunk: int, frame: int, seconds: float) -> SceneChange:
    return SceneChange(chunk_index=chunk, frame_index=frame, timestamp_seconds=seconds, cut_seconds=seconds)


async def test_a_score_of_the_video_is_the_mean_of_its_chunk_scores_weighted_by_duration():
    summary = Summary()
    chunks = [unit(4, seed=seed) for seed in (10, 11, 12)]
    durations = [Fraction(10), Fraction(10), Fraction(7, 2)]
    for frames, duration in zip(chunks, durations, strict=True):
        summary.add(duration, frames, pooled(frames), [])
    answer = await summary.rank(NumpyDecoders(), SPEC, Deadline.after(5))

    weights = np.array([float(duration) for duration in durations])
    chunk_scores = np.stack([TAG_ROWS.astype(np.float64) @ pooled(frames) for frames in chunks])
    wanted = dict(zip(TAGS, (weights @ chunk_scores) / weights.sum(), strict=True))
    best = sorted(wanted, key=lambda tag: -wanted[tag])[:2]
    assert [tag.text for tag in answer.tags] == best
    for tag in answer.tags:
        position = TAGS.index(tag.text)
        assert tag.score == pytest.approx(wanted[tag.text], abs=1e-6)
        assert tag.probability == pytest.approx(probability(wanted[tag.text]), abs=1e-5)
        assert tag.best_chunk_index == int(np.argmax(chunk_scores[:, position]))
        assert tag.max_probability == pytest.approx(probability(chunk_scores[:, position].max()), abs=1e-6)
    caption_scores = np.stack([CAPTION_ROWS.astype(np.float64) @ pooled(frames) for frames in chunks])
    winner = int(np.argmax(weights @ caption_scores))
    assert answer.caption.text == CAPTIONS[winner]
    assert answer.caption.best_chunk_index == int(np.argmax(caption_scores[:, winner]))
    assert answer.video_duration_seconds == 23.5


async def test_scenes_lie_between_the_changes_and_are_named_by_their_own_frames():
    frames = unit(12, seed=20)
    changes = [change(0, 2, 2.0), change(1, 0, 4.0), change(2, 3, 11.0)]
    summary = Summary()
    for index in range(3):
        chunk = frames[4 * index : 4 * index + 4]
        summary.add(Fraction(4), chunk, pooled(chunk), [c for c in changes if c.chunk_index == index])
    answer = await summary.rank(NumpyDecoders(), SPEC, Deadline.after(5))
    assert [(scene.start_seconds, scene.end_seconds) for scene in answer.scenes] == [(0, 2), (2, 4), (4, 11), (11, 12)]
    assert list(answer.scene_changes) == changes
    for scene, of_scene in zip(answer.scenes, np.split(frames, [2, 4, 11]), strict=True):
        scores = TAG_ROWS.astype(np.float64) @ pooled(of_scene)
        assert scene.tags[0].text == TAGS[int(np.argmax(scores))]
        assert scene.tags[0].score == pytest.approx(scores.max(), abs=1e-6)
        assert scene.caption.text == CAPTIONS[int(np.argmax(CAPTION_ROWS @ pooled(of_scene)))]


async def test_a_video_without_a_change_is_one_scene():
    frames = unit(3, seed=30)
    summary = Summary()
    summary.add(Fraction(1, 3), frames, pooled(frames), [])
    answer = await summary.rank(NumpyDecoders(), SPEC, Deadline.after(5))
    assert [(scene.start_seconds, scene.end_seconds) for scene in answer.scenes] == [(0, 1 / 3)]


async def test_scenes_whose_frames_cancel_out_resemble_no_text():
    frame = unit(1, seed=40)
    summary = Summary()
    summary.add(Fraction(1), np.concatenate([frame, -frame]), np.zeros(DIMENSIONS, np.float32), [])
    answer = await summary.rank(NumpyDecoders(), SPEC, Deadline.after(5))
    assert answer.scenes[0].tags[0].score == 0


async def test_long_videos_are_ranked_in_calls_of_bounded_size():
    decoders = NumpyDecoders()
    summary = Summary()
    for seed in range(600):
        frames = unit(1, seed=seed)
        summary.add(Fraction(1), frames, frames[0], [change(seed, 0, float(seed))] if seed else [])
    answer = await summary.rank(decoders, SPEC, Deadline.after(30))
    assert len(answer.scenes) == 600
    assert max(decoders.rows_per_call) <= 256
    assert sum(decoders.rows_per_call) == 601 + 600
