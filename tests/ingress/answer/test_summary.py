from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingress.admission import Deadline
from services.ingress.answer.summary import Summary
from videoanalysis import tensors
from videoanalysis.v1.analysis_pb2 import Scene
from videoanalysis.v1.decoder_pb2 import (
    CaptionScore,
    DecodeChunkResponse,
    LeadingTexts,
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
SOON = Deadline.after(60)


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
        return RankTextsResponse(rankings=map(self._ranking, rows))

    def _ranking(self, row: np.ndarray) -> TextRanking:
        tags, captions = TAG_ROWS.astype(np.float64) @ row, CAPTION_ROWS.astype(np.float64) @ row
        best, caption = np.argsort(-tags, kind="stable")[: SPEC.top_k_tags], int(np.argmax(captions))
        return TextRanking(
            tags=[TagScore(text=TAGS[i], score=tags[i], probability=probability(tags[i])) for i in best],
            tag_positions=best,
            caption=CaptionScore(
                text=CAPTIONS[caption], score=captions[caption], probability=probability(captions[caption])
            ),
            caption_position=caption,
        )


def pooled(frames: np.ndarray) -> np.ndarray:
    mean = frames.mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(mean)
    return (mean / length if length > 1e-6 else np.zeros_like(mean)).astype(np.float32)


def leading(rows: np.ndarray, row: np.ndarray) -> LeadingTexts:
    scores = rows.astype(np.float64) @ row.astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    return LeadingTexts(positions=order, scores=scores[order])


def decoded(frames: np.ndarray, *changes: SceneChange) -> DecodeChunkResponse:
    row = pooled(frames)
    return DecodeChunkResponse(
        scene_changes=changes,
        pooled_embedding=tensors.to_proto(row),
        leading_tags=leading(TAG_ROWS, row),
        leading_captions=leading(CAPTION_ROWS, row),
    )


def change(chunk: int, frame: int, seconds: float) -> SceneChange:
    return SceneChange(chunk_index=chunk, frame_index=frame, timestamp_seconds=seconds, cut_seconds=seconds)


async def test_a_score_of_the_video_is_the_mean_of_its_chunk_scores_weighted_by_duration():
    summary = Summary(NumpyDecoders(), SPEC)
    chunks = [unit(4, seed=seed) for seed in (10, 11, 12)]
    durations = [Fraction(10), Fraction(10), Fraction(7, 2)]
    for index, (frames, duration) in enumerate(zip(chunks, durations, strict=True)):
        await summary.add(index, duration, frames, decoded(frames), SOON)
    answer = await summary.answer(SOON)

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


async def test_scenes_lie_between_the_changes_are_ranked_by_their_own_frames_and_reported_as_they_end():
    frames = unit(12, seed=20)
    changes = [change(0, 2, 2.0), change(1, 0, 4.0), change(2, 3, 11.0)]
    summary = Summary(NumpyDecoders(), SPEC)
    told = []
    for index in range(3):
        chunk = frames[4 * index : 4 * index + 4]
        found = decoded(chunk, *(c for c in changes if c.chunk_index == index))
        told.append(await summary.add(index, Fraction(4), chunk, found, SOON))
    answer = await summary.answer(SOON)
    assert [(scene.start_seconds, scene.end_seconds) for scene in answer.scenes] == [(0, 2), (2, 4), (4, 11), (11, 12)]
    assert told == [[scene] for scene in answer.scenes[:-1]]
    assert list(answer.scene_changes) == changes
    for scene, of_scene in zip(answer.scenes, np.split(frames, [2, 4, 11]), strict=True):
        scores = TAG_ROWS.astype(np.float64) @ pooled(of_scene)
        assert scene.tags[0].text == TAGS[int(np.argmax(scores))]
        assert scene.tags[0].score == pytest.approx(scores.max(), abs=1e-6)
        assert scene.caption.text == CAPTIONS[int(np.argmax(CAPTION_ROWS @ pooled(of_scene)))]


async def test_a_video_without_a_change_is_one_scene_and_one_call():
    frames, decoders = unit(3, seed=30), NumpyDecoders()
    summary = Summary(decoders, SPEC)
    for index in range(5):
        assert await summary.add(index, Fraction(1, 3), frames, decoded(frames), SOON) == []
    answer = await summary.answer(SOON)
    assert [(scene.start_seconds, scene.end_seconds) for scene in answer.scenes] == [(0, 5 / 3)]
    assert decoders.rows_per_call == [2]


async def test_scenes_whose_frames_cancel_out_resemble_no_text():
    frame = unit(1, seed=40)
    frames = np.concatenate([frame, -frame])
    summary = Summary(NumpyDecoders(), SPEC)
    await summary.add(0, Fraction(1), frames, decoded(frames), SOON)
    answer = await summary.answer(SOON)
    assert answer.scenes[0].tags[0].score == 0


async def test_a_text_outscored_by_too_many_others_has_no_best_chunk():
    frames = unit(2, seed=50)
    found = decoded(frames)
    others = [*range(1000, 1112)]
    found.leading_tags.CopyFrom(LeadingTexts(positions=others, scores=[0.99] * len(others)))
    summary = Summary(NumpyDecoders(), SPEC)
    for index in range(2):
        await summary.add(index, Fraction(1), frames, decoded(frames) if index else found, SOON)
    answer = await summary.answer(SOON)
    assert [(tag.best_chunk_index, tag.max_probability) for tag in answer.tags] == [(0, 0)] * 2
    assert answer.caption.max_probability > 0


async def test_rounding_between_the_chunks_of_six_hours_costs_a_score_less_than_a_millionth():
    draw = np.random.default_rng(60)
    mean = unit(1, seed=61)[0]
    summary = Summary(NumpyDecoders(), SPEC)
    exact = np.zeros(DIMENSIONS)
    for index in range(2160):
        frame = mean + 0.3 * draw.standard_normal(DIMENSIONS)
        frames = (frame / np.linalg.norm(frame)).astype(np.float32)[np.newaxis]
        await summary.add(index, Fraction(10), frames, decoded(frames), SOON)
        exact += pooled(frames)
    answer = await summary.answer(SOON)
    scores = dict(zip(TAGS, TAG_ROWS.astype(np.float64) @ exact / 2160, strict=True))
    for tag in answer.tags:
        assert abs(tag.score - scores[tag.text]) < 1e-6


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), stops=st.lists(st.booleans(), min_size=12, max_size=12))
async def test_with_the_state_of_another_the_answer_is_that_of_one_summary(seed, stops):
    draw = np.random.default_rng(seed)
    whole, parts = Summary(NumpyDecoders(), SPEC), Summary(NumpyDecoders(), SPEC)
    whole_scenes: list[Scene] = []
    told: list[Scene] = []
    changes = 0
    for index, stop in enumerate(stops):
        frames = unit(4, seed=seed + index)
        cuts = [change(index, int(i), index + i / 4) for i in np.flatnonzero(draw.random(4) < 0.2)]
        whole_scenes += await whole.add(index, Fraction(1), frames, decoded(frames, *cuts), SOON)
        told += await parts.add(index, Fraction(1), frames, decoded(frames, *cuts), SOON)
        if stop:
            parts = Summary(NumpyDecoders(), SPEC, parts.state())
            changes = len(told)
    expected, rest = await whole.answer(SOON), await parts.answer(SOON)
    assert told == whole_scenes
    assert [*told[:changes], *rest.scenes] == list(expected.scenes)
    assert [*expected.scene_changes[:changes], *rest.scene_changes] == list(expected.scene_changes)
    for answer in (expected, rest):
        answer.ClearField("scenes")
        answer.ClearField("scene_changes")
    assert rest == expected
