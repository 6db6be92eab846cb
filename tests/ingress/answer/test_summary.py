"""The summary of a video against the same computed in float64 from all of its frames at once."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingress.admission import Deadline
from services.ingress.answer.shots import ends_at_changes
from services.ingress.answer.summary import Summary
from videoanalysis import tensors
from videoanalysis.scores import LEADING_CAPTIONS, LEADING_TAGS
from videoanalysis.v1.analysis_pb2 import Scene
from videoanalysis.v1.decoder_pb2 import (
    CaptionScore,
    DecodeChunkResponse,
    RankingSpec,
    RankTextsRequest,
    RankTextsResponse,
    RankVideoRequest,
    RankVideoResponse,
    SceneChange,
    TagScore,
    TextProbabilities,
    TextRanking,
)

DIMENSIONS = 6
TOP_K = 2
SPEC = RankingSpec(model_digest="sha256:m", top_k_tags=TOP_K, logit_scale=10, logit_bias=-2)
SOON = Deadline.after(60)


def unit(*shape: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((*shape, DIMENSIONS))
    return (drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)).astype(np.float32)


def probability(score: np.ndarray, spec: RankingSpec = SPEC) -> np.ndarray:
    return 1 / (1 + np.exp(-(spec.logit_scale * score + spec.logit_bias)))


class NumpyDecoders:
    """Ranks as the decoder's contract says, in float64."""

    def __init__(self, tags: int = 4, captions: int = 2, spec: RankingSpec = SPEC) -> None:
        self.tag_rows = unit(tags, seed=1).astype(np.float64)
        self.caption_rows = unit(captions, seed=2).astype(np.float64)
        self.spec = spec
        self.rows_per_call: list[int] = []

    async def rank(self, request: RankTextsRequest, deadline: Deadline) -> RankTextsResponse:
        rows = tensors.from_proto(request.embeddings).astype(np.float64)
        self.rows_per_call.append(len(rows))
        return RankTextsResponse(rankings=map(self._ranking, rows))

    async def rank_video(self, request: RankVideoRequest, deadline: Deadline) -> RankVideoResponse:
        row = tensors.from_proto(request.embedding).astype(np.float64)
        response = RankVideoResponse()
        for position, likely, score in best_of_video(self.tag_rows @ row, request.tags, TOP_K):
            response.tags.add(text=f"tag {position}", score=score, probability=likely)
            response.tag_positions.append(position)
        for position, likely, score in best_of_video(self.caption_rows @ row, request.captions, 1):
            response.caption_position = position
            response.caption.CopyFrom(CaptionScore(text=f"caption {position}", score=score, probability=likely))
        return response

    def _ranking(self, row: np.ndarray) -> TextRanking:
        tags, captions = self.tag_rows @ row, self.caption_rows @ row
        best, caption = np.argsort(-tags, kind="stable")[:TOP_K], int(np.argmax(captions))
        return TextRanking(
            tags=[TagScore(text=f"tag {i}", score=tags[i], probability=probability(tags[i], self.spec)) for i in best],
            caption=CaptionScore(
                text=f"caption {caption}",
                score=captions[caption],
                probability=probability(captions[caption], self.spec),
            ),
            leading_tags=leading(probability(tags, self.spec), LEADING_TAGS),
            leading_captions=leading(probability(captions, self.spec), LEADING_CAPTIONS),
        )


def best_of_video(scores: np.ndarray, known: TextProbabilities, count: int) -> list[tuple[int, float, float]]:
    """Position, probability and score of the best texts."""
    probabilities = np.zeros(len(scores))
    probabilities[list(known.positions)] = known.probabilities
    order = np.lexsort((-scores, -probabilities))[:count]
    return [(int(i), probabilities[i], scores[i]) for i in order]


def leading(probabilities: np.ndarray, count: int) -> TextProbabilities:
    best_first = np.argsort(-probabilities, kind="stable")
    reported, others = best_first[:count], best_first[count:]
    return TextProbabilities(
        positions=reported,
        probabilities=probabilities[reported],
        max_of_others=probabilities[others[0]] if len(others) else 0,
    )


def pooled(frames: np.ndarray) -> np.ndarray:
    mean = frames.mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(mean)
    return (mean / length if length > 1e-6 else np.zeros_like(mean)).astype(np.float32)


async def add(summary: Summary, duration: Fraction, frames: np.ndarray, found: DecodeChunkResponse) -> list[Scene]:
    """Scenes end at scene changes."""
    return await summary.add(duration, frames, found, ends_at_changes(found.scene_changes), SOON)


def decoded(frames: np.ndarray, *changes: SceneChange) -> DecodeChunkResponse:
    return DecodeChunkResponse(scene_changes=changes, pooled_embedding=tensors.to_proto(pooled(frames)))


def change(chunk: int, frame: int, seconds: float) -> SceneChange:
    return SceneChange(chunk_index=chunk, frame_index=frame, timestamp_seconds=seconds, cut_seconds=seconds)


def scenes_of(frames: np.ndarray, starts: list[int]) -> np.ndarray:
    """float64 [scenes, D]: the normalised means of the frames from each of `starts` on."""
    means = [part.mean(axis=0, dtype=np.float64) for part in np.split(frames, starts)]
    return np.stack([mean / np.linalg.norm(mean) for mean in means])


async def test_a_probability_of_the_video_is_that_of_its_scenes_weighted_by_duration_and_so_is_the_score_of_chunks():
    decoders = NumpyDecoders()
    summary = Summary(decoders, SPEC)
    frames = unit(12, seed=10)
    durations = [Fraction(10), Fraction(10), Fraction(7, 2)]
    changes = {0: [change(0, 2, 5.5)], 1: [], 2: [change(2, 1, 21.0), change(2, 3, 22.5)]}
    chunks = np.split(frames, 3)
    for index, (chunk, duration) in enumerate(zip(chunks, durations, strict=True)):
        await add(summary, duration, chunk, decoded(chunk, *changes[index]))
    answer = await summary.answer(SOON)

    edges = np.array([0, 5.5, 21, 22.5, 23.5])
    rows = scenes_of(frames, [2, 9, 11])
    weights = np.array([float(duration) for duration in durations]) / 23.5
    chunk_rows = np.stack([pooled(chunk) for chunk in chunks])
    for texts, found in ((decoders.tag_rows, list(answer.tags)), (decoders.caption_rows, [answer.caption])):
        in_scenes = probability(rows @ texts.T)
        shares = np.diff(edges) / 23.5 @ in_scenes
        scores = weights @ (chunk_rows @ texts.T)
        order = np.argsort(-shares)
        assert [int(text.text.split()[1]) for text in found] == list(order[: len(found)])
        for text, position in zip(found, order, strict=False):
            assert text.probability == pytest.approx(shares[position], abs=1e-6)
            assert text.score == pytest.approx(scores[position], abs=1e-6)
            scene = int(np.argmax(in_scenes[:, position]))
            assert text.max_probability == pytest.approx(in_scenes[scene, position], abs=1e-6)
            assert text.peak_seconds == pytest.approx((edges[scene] + edges[scene + 1]) / 2, abs=1e-5)
            assert text.uncertainty == 0
    assert answer.video_duration_seconds == 23.5


async def test_a_text_that_only_one_long_scene_shows_comes_before_one_with_a_higher_mean_score():
    """The mean of cosines put through the sigmoid would give 0.3 % and the wrong order."""
    decoders = NumpyDecoders()
    decoders.tag_rows = np.eye(4, DIMENSIONS)
    spec = RankingSpec(model_digest="sha256:m", top_k_tags=TOP_K, logit_scale=100, logit_bias=-50)
    decoders.spec = spec
    first, second = np.eye(4, DIMENSIONS, dtype=np.float32)[:2]
    middling = np.array([0, 0, 0.45, 0, 0, np.sqrt(1 - 0.45**2)], np.float32)
    summary = Summary(decoders, spec)
    frames = np.stack([first, second, second, middling, middling, middling, middling, middling])
    found = decoded(frames, change(0, 1, 1.0), change(0, 3, 3.0))
    await add(summary, Fraction(8), frames, found)
    answer = await summary.answer(SOON)
    assert [(tag.text, round(tag.probability, 3)) for tag in answer.tags] == [("tag 1", 0.25), ("tag 0", 0.125)]
    assert [(tag.max_probability, tag.peak_seconds) for tag in answer.tags] == [(1, 2), (1, 0.5)]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 100_000), tags=st.integers(1, 200), captions=st.integers(1, 100), scale=st.integers(1, 60))
async def test_resumed_behind_every_chunk_the_summary_is_the_full_computation_within_its_uncertainty(
    seed, tags, captions, scale
):
    draw = np.random.default_rng(seed)
    spec = RankingSpec(model_digest="sha256:m", top_k_tags=TOP_K, logit_scale=scale, logit_bias=-scale / 2)
    decoders = NumpyDecoders(tags, captions, spec)
    summary = Summary(decoders, spec)
    frames = unit(4 * 12, seed=seed)
    starts, edges = [], [0.0]
    for index, chunk in enumerate(np.split(frames, 12)):
        changes = [change(index, int(i), index + i / 4) for i in np.flatnonzero(draw.random(4) < 0.3)]
        changes = [found for found in changes if found.cut_seconds > 0]
        starts += [4 * index + found.frame_index for found in changes]
        edges += [found.cut_seconds for found in changes]
        await add(summary, Fraction(1), chunk, decoded(chunk, *changes))
        summary = Summary(decoders, spec, summary.state())
    answer = await summary.answer(SOON)

    rows, durations = scenes_of(frames, starts), np.diff([*edges, 12.0])
    for texts, found, kept in (
        (decoders.tag_rows, list(answer.tags), LEADING_TAGS),
        (decoders.caption_rows, [answer.caption], LEADING_CAPTIONS),
    ):
        shares = durations / 12 @ probability(rows @ texts.T, spec)
        for text in found:
            share = shares[int(text.text.split()[1])]
            assert text.probability - 1e-6 <= share <= text.probability + text.uncertainty + 1e-6
            if len(texts) <= kept:
                assert text.uncertainty == 0
        if len(texts) <= kept:
            best = np.sort(shares)[::-1][: len(found)]
            assert [text.probability for text in found] == pytest.approx(list(best), abs=1e-6)


async def test_scenes_lie_between_the_changes_are_ranked_by_their_own_frames_and_reported_as_they_end():
    frames = unit(12, seed=20)
    changes = [change(0, 2, 2.0), change(1, 0, 4.0), change(2, 3, 11.0)]
    decoders = NumpyDecoders()
    summary = Summary(decoders, SPEC)
    reported = []
    for index in range(3):
        chunk = frames[4 * index : 4 * index + 4]
        found = decoded(chunk, *(c for c in changes if c.chunk_index == index))
        reported.append(await add(summary, Fraction(4), chunk, found))
    answer = await summary.answer(SOON)
    scenes = [*(scene for (scene,) in reported), *answer.scenes]
    assert [(scene.start_seconds, scene.end_seconds) for scene in scenes] == [(0, 2), (2, 4), (4, 11), (11, 12)]
    for scene, of_scene in zip(scenes, np.split(frames, [2, 4, 11]), strict=True):
        scores = decoders.tag_rows @ pooled(of_scene)
        assert scene.tags[0].text == f"tag {int(np.argmax(scores))}"
        assert scene.tags[0].score == pytest.approx(scores.max(), abs=1e-6)
        assert scene.caption.text == f"caption {int(np.argmax(decoders.caption_rows @ pooled(of_scene)))}"


@pytest.mark.parametrize("stop", [None, 0, 1], ids=["in one", "resumed behind chunk 0", "resumed behind chunk 1"])
async def test_a_change_too_soon_after_the_start_of_a_scene_does_not_end_it(stop):
    frames = unit(12, seed=21)
    changes = [change(0, 2, 2.0), change(0, 3, 3.0), change(1, 0, 4.0), change(1, 3, 7.5), change(2, 3, 11.0)]
    decoders = NumpyDecoders()
    summary = Summary(decoders, SPEC, min_scene_seconds=2.0)
    scenes = []
    for index in range(3):
        chunk = frames[4 * index : 4 * index + 4]
        found = decoded(chunk, *(c for c in changes if c.chunk_index == index))
        scenes += await add(summary, Fraction(4), chunk, found)
        if index == stop:
            summary = Summary(decoders, SPEC, summary.state(), min_scene_seconds=2.0)
    scenes += (await summary.answer(SOON)).scenes
    # Only the last one is shorter than two seconds.
    assert [(scene.start_seconds, scene.end_seconds) for scene in scenes] == [
        (0, 2),
        (2, 4),
        (4, 7.5),
        (7.5, 11),
        (11, 12),
    ]
    for scene, of_scene in zip(scenes, np.split(frames, [2, 4, 7, 11]), strict=True):
        assert scene.tags[0].score == pytest.approx((decoders.tag_rows @ pooled(of_scene)).max(), abs=1e-6)


async def test_a_video_without_a_change_is_one_scene_and_one_call():
    frames, decoders = unit(3, seed=30), NumpyDecoders()
    summary = Summary(decoders, SPEC)
    for _ in range(5):
        assert await add(summary, Fraction(1, 3), frames, decoded(frames)) == []
    answer = await summary.answer(SOON)
    assert [(scene.start_seconds, scene.end_seconds) for scene in answer.scenes] == [(0, 5 / 3)]
    assert decoders.rows_per_call == [1]


async def test_scenes_whose_frames_cancel_out_resemble_no_text():
    frame = unit(1, seed=40)
    frames = np.concatenate([frame, -frame])
    summary = Summary(NumpyDecoders(), SPEC)
    await add(summary, Fraction(1), frames, decoded(frames))
    answer = await summary.answer(SOON)
    assert answer.scenes[0].tags[0].score == 0


async def test_rounding_between_the_chunks_of_six_hours_costs_less_than_a_millionth_of_scores_and_probabilities():
    draw = np.random.default_rng(60)
    mean = unit(1, seed=61)[0]
    decoders = NumpyDecoders()
    summary = Summary(decoders, SPEC)
    rows = []
    for index in range(2160):
        frame = mean + 0.3 * draw.standard_normal(DIMENSIONS)
        frames = (frame / np.linalg.norm(frame)).astype(np.float32)[np.newaxis]
        found = decoded(frames, *([change(index, 0, 10 * index)] if index else []))
        await add(summary, Fraction(10), frames, found)
        rows.append(pooled(frames).astype(np.float64))
    answer = await summary.answer(SOON)
    scores = np.stack(rows) @ decoders.tag_rows.T
    for tag in answer.tags:
        position = int(tag.text.split()[1])
        assert abs(tag.score - scores[:, position].mean()) < 1e-6
        assert abs(tag.probability - probability(scores[:, position]).mean()) < 1e-6


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), stops=st.lists(st.booleans(), min_size=12, max_size=12))
async def test_with_the_state_of_another_the_answer_is_that_of_one_summary(seed, stops):
    draw = np.random.default_rng(seed)
    whole, parts = Summary(NumpyDecoders(), SPEC), Summary(NumpyDecoders(), SPEC)
    whole_scenes: list[Scene] = []
    reported: list[Scene] = []
    for index, stop in enumerate(stops):
        frames = unit(4, seed=seed + index)
        cuts = [change(index, int(i), index + i / 4) for i in np.flatnonzero(draw.random(4) < 0.2)]
        whole_scenes += await add(whole, Fraction(1), frames, decoded(frames, *cuts))
        reported += await add(parts, Fraction(1), frames, decoded(frames, *cuts))
        if stop:
            parts = Summary(NumpyDecoders(), SPEC, parts.state())
    assert reported == whole_scenes
    assert await parts.answer(SOON) == await whole.answer(SOON)
