import math
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.decoder.ranking import Texts, likely, rank, rank_by_probability
from tests.decoder.samples import unit_rows
from videoanalysis.scores import Calibration

CALIBRATION = Calibration(logit_scale=110.0, logit_bias=-12.0)


def texts_of(embeddings: np.ndarray) -> Texts:
    return Texts(tuple(f"text {i}" for i in range(len(embeddings))), embeddings)


def reference_order(row: np.ndarray, embeddings: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Positions by falling float64 cosine, equal ones by position; and the cosines."""
    cosines = np.array([math.fsum(float(a) * float(b) for a, b in zip(row, text, strict=True)) for text in embeddings])
    return sorted(range(len(cosines)), key=lambda i: (-cosines[i], i)), cosines


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 4), texts=st.integers(1, 40), top_k=st.integers(1, 50))
def test_ranks_as_a_full_sort_of_float64_cosines(seed, rows, texts, top_k):
    embeddings, queries = unit_rows(texts, 24, seed), unit_rows(rows, 24, seed + 1)
    for query, matches in zip(queries, rank(queries, texts_of(embeddings), top_k, CALIBRATION), strict=True):
        order, cosines = reference_order(query, embeddings)
        assert [match.text for match in matches] == [f"text {i}" for i in order[:top_k]]
        np.testing.assert_allclose([match.score for match in matches], cosines[order[:top_k]], atol=1e-15)


@given(choice=st.lists(st.integers(0, 2), min_size=1, max_size=60), top_k=st.integers(1, 10))
def test_equal_texts_stay_in_the_order_of_the_bank(choice, top_k):
    distinct = unit_rows(3, 24)
    query = unit_rows(1, 24, seed=5)
    order, _ = reference_order(query[0], distinct)
    expected = sorted(range(len(choice)), key=lambda i: (order.index(choice[i]), i))
    (matches,) = rank(query, texts_of(distinct[choice]), top_k, CALIBRATION)
    assert [match.text for match in matches] == [f"text {i}" for i in expected[:top_k]]


def test_scores_that_float32_cannot_tell_apart_are_ordered():
    base = np.zeros((50, 1152), np.float32)
    base[:, 0] = 1
    # Cosines with the query differ by 1e-9 each, rising; float32 at 1 resolves 6e-8.
    base[:, 1] = np.arange(50) * 1e-5
    query = np.zeros((1, 1152), np.float32)
    query[0, :2] = 1, 1e-4
    (matches,) = rank(query, texts_of(base), 3, CALIBRATION)
    assert [match.text for match in matches] == ["text 49", "text 48", "text 47"]
    assert [match.position for match in matches] == [49, 48, 47]


def test_a_large_bank_gives_what_a_small_one_gives():
    embeddings, query = unit_rows(20_000, 32), unit_rows(1, 32, seed=3)
    (matches,) = rank(query, texts_of(embeddings), 5, CALIBRATION)
    order = np.argsort(-(embeddings.astype(np.float64) @ query[0].astype(np.float64)), kind="stable")[:5]
    assert [match.text for match in matches] == [f"text {i}" for i in order]
    (few,) = rank(query, Texts(tuple(m.text for m in matches), embeddings[order]), 5, CALIBRATION)
    assert few == [replace(match, position=i) for i, match in enumerate(matches)]


def test_a_row_scores_the_same_to_the_last_bit_alone_and_among_others():
    texts, queries = texts_of(unit_rows(60, 1152)), unit_rows(20, 1152, seed=7)
    together = rank(queries, texts, 5, CALIBRATION)
    assert [rank(query[np.newaxis], texts, 5, CALIBRATION)[0] for query in queries] == together


def test_a_row_without_direction_scores_zero_against_every_text():
    (matches,) = rank(np.zeros((1, 8), np.float32), texts_of(unit_rows(10_000)), 2, CALIBRATION)
    assert [(match.text, match.score) for match in matches] == [("text 0", 0.0), ("text 1", 0.0)]


def test_texts_under_the_least_probability_are_left_out():
    texts, query = texts_of(unit_rows(30)), unit_rows(1, seed=2)
    (everything,) = rank(query, texts, 30, CALIBRATION)
    assert likely(everything, texts, everything[3].probability) == everything[:4]
    assert likely(everything, texts, 0) == likely(everything, texts, None) == everything


def test_each_text_has_a_least_probability_of_its_own_unless_the_request_has_one():
    query, embeddings = unit_rows(1, seed=2), unit_rows(30)
    (everything,) = rank(query, texts_of(embeddings), 30, CALIBRATION)
    limits = np.zeros(30)
    limits[everything[0].position] = everything[0].probability
    limits[everything[2].position] = everything[1].probability
    texts = replace(texts_of(embeddings), min_probabilities=limits)
    assert likely(everything, texts, None) == [*everything[:2], *everything[3:]]
    assert likely(everything, texts, 0) == everything


@given(seed=st.integers(0, 10_000), texts=st.integers(1, 40), top_k=st.integers(1, 50), known=st.integers(0, 40))
def test_ranks_by_given_probabilities_then_by_score_then_by_position(seed, texts, top_k, known):
    draw = np.random.default_rng(seed)
    embeddings, row = unit_rows(texts, 24, seed), unit_rows(1, 24, seed + 1)[0]
    positions = draw.permutation(texts)[:known].tolist()
    probabilities = dict(zip(positions, draw.choice([0.0, 0.25, 0.5], len(positions)).tolist(), strict=True))
    _, cosines = reference_order(row, embeddings)
    order = sorted(range(texts), key=lambda i: (-probabilities.get(i, 0.0), -cosines[i], i))
    matches = rank_by_probability(row, texts_of(embeddings), top_k, probabilities)
    assert [match.position for match in matches] == order[:top_k]
    assert [match.probability for match in matches] == [probabilities.get(i, 0.0) for i in order[:top_k]]
    np.testing.assert_allclose([match.score for match in matches], cosines[order[:top_k]], atol=1e-15)


def test_no_texts_give_an_empty_ranking():
    assert rank(unit_rows(2), texts_of(np.empty((0, 8), np.float32)), 5, CALIBRATION) == [[], []]


def test_scores_are_plain_floats():
    ((match,),) = rank(unit_rows(1), texts_of(unit_rows(4)), 1, CALIBRATION)
    assert type(match.score) is float
    assert type(match.probability) is float
