"""Shares of texts against the full sums in float64, over random videos and banks of any size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingress.answer.text_shares import TextShares
from videoanalysis.v1.decoder_pb2 import TextProbabilities

SIZE = 5
# Relative error of sums that are rounded to float32 after each of at most 60 scenes.
ROUNDING = 60 * 2.0**-24


def leading(probabilities: np.ndarray, count: int = SIZE) -> TextProbabilities:
    """Of a scene in which the text at each position has one of `probabilities`."""
    best_first = np.argsort(-probabilities, kind="stable")
    reported, others = best_first[:count], best_first[count:]
    return TextProbabilities(
        positions=reported,
        probabilities=probabilities[reported],
        max_of_others=probabilities[others[0]] if len(others) else 0.0,
    )


def video(seed: int, scenes: int, texts: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges [scenes + 1] in seconds, and the probability of each text in each scene: few high, many near 0."""
    draw = np.random.default_rng(seed)
    edges = np.concatenate([[0], np.cumsum(draw.uniform(0.01, 30, scenes))])
    return edges, 1 / (1 + np.exp(-draw.normal(-6, 5, (scenes, texts))))


def added(shares: TextShares, edges: np.ndarray, probabilities: np.ndarray, *, resume: bool = False) -> TextShares:
    for index, of_scene in enumerate(probabilities):
        shares.add(edges[index], edges[index + 1], leading(of_scene))
        if resume:
            shares = TextShares(SIZE, shares.items(), shares.seconds_of_others)
    return shares


@given(seed=st.integers(0, 10_000), scenes=st.integers(1, 60), texts=st.integers(1, SIZE))
def test_of_a_bank_that_fits_into_the_selection_everything_is_exact(seed, scenes, texts):
    edges, probabilities = video(seed, scenes, texts)
    shares = added(TextShares(SIZE), edges, probabilities, resume=True)
    totals = np.diff(edges) @ probabilities
    for position in range(texts):
        share = shares.of(position)
        assert share.seconds == pytest.approx(totals[position], rel=ROUNDING)
        assert shares.uncertain_seconds(position) == 0
        peak = int(np.argmax(probabilities[:, position].astype(np.float32)))
        assert share.max_probability == np.float32(probabilities[peak, position])
        assert share.peak_seconds == pytest.approx((edges[peak] + edges[peak + 1]) / 2, rel=1e-7)


@settings(max_examples=300)
@given(seed=st.integers(0, 100_000), scenes=st.integers(1, 60), texts=st.integers(SIZE + 1, 60))
def test_of_a_larger_bank_each_share_lies_within_its_bounds_and_large_shares_are_never_missed(seed, scenes, texts):
    edges, probabilities = video(seed, scenes, texts)
    shares = added(TextShares(SIZE), edges, probabilities, resume=True)
    durations = np.diff(edges)
    totals = durations @ probabilities
    reported = np.stack([np.where(row >= np.sort(row)[-SIZE], row, 0) for row in probabilities])
    rounding = ROUNDING * (durations @ reported).sum() + 1e-9
    for position in range(texts):
        seconds = shares.of(position).seconds
        assert seconds - rounding <= totals[position]
        assert totals[position] <= seconds + shares.uncertain_seconds(position) + rounding
    selected = {share.position for share in shares.items()}
    # As the algorithm promises, for the sums over the scenes that report a text.
    sums = durations @ reported
    negligible = 1e-4 * edges[-1]
    large = np.flatnonzero(sums > sums.sum() / SIZE + negligible + rounding)
    assert set(large) <= selected


def test_a_text_that_appears_late_and_often_is_found_although_earlier_ones_have_larger_sums():
    shares = TextShares(SIZE)
    shares.add(0, 100, leading(np.array([0.9] * SIZE + [0.0])))
    for index in range(200):
        shares.add(100 + 10 * index, 110 + 10 * index, leading(np.array([0.0] * SIZE + [1.0])))
    best = max(shares.items(), key=lambda share: share.seconds)
    assert (best.position, best.seconds) == (SIZE, 2000)
    assert shares.uncertain_seconds(SIZE) == pytest.approx(90)


def test_a_text_that_is_negligible_displaces_no_other():
    shares = TextShares(SIZE)
    shares.add(0, 10, leading(np.array([1e-5] * SIZE + [0.0])))
    shares.add(10, 20, leading(np.array([0.0] * SIZE + [9e-5])))
    assert {share.position for share in shares.items()} == set(range(SIZE))
    assert shares.uncertain_seconds(SIZE) == pytest.approx(10 * 1e-5 + 10 * 9e-5, rel=1e-6)


def test_of_equal_probabilities_the_first_scene_is_the_peak():
    shares = TextShares(SIZE)
    for start in (0, 10, 20):
        shares.add(start, start + 10, leading(np.array([0.25, 0.5])))
    assert [shares.of(position).peak_seconds for position in (0, 1)] == [5, 5]


def test_a_scene_without_duration_has_no_share_and_no_peak():
    shares = TextShares(SIZE)
    shares.add(10, 10, leading(np.array([0.5])))
    assert shares.items() == ()


def test_probabilities_are_shares_of_the_duration():
    shares = TextShares(SIZE)
    shares.add(0, 10, leading(np.array([1.0, 0.5])))
    found = shares.probabilities(40)
    assert dict(zip(found.positions, found.probabilities, strict=True)) == {0: 0.25, 1: 0.125}
