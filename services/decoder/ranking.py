"""Ranks texts by their cosine to an embedding, with the model's probability for each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from videoanalysis.embeddings import dots
from videoanalysis.scores import Calibration

# Texts per exact product: bounds the float64 copy of their embeddings to tens of megabytes.
_BLOCK_TEXTS = 4096


@dataclass(frozen=True, slots=True)
class Texts:
    texts: tuple[str, ...]
    # float32 [texts, D], unit rows.
    embeddings: NDArray[np.float32]
    # float64 [texts]: a text with a lower probability is left out, unless the request has a minimum. None: none is.
    min_probabilities: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class Match:
    text: str
    # Index into the texts.
    position: int
    # Dot product of row and text: the cosine where the row has unit length.
    score: float
    probability: float


def rank(rows: NDArray[np.float32], texts: Texts, top_k: int, calibration: Calibration) -> list[list[Match]]:
    """For each row of `rows`, float32 [n, D] of length 1 at most, its best `top_k` texts, best first; equal scores in
    text order.

    A score depends only on its row and text, to the last bit.
    """
    # One float32 matrix product selects the candidates, whose scores are then computed exactly. The margin is twice the
    # largest error of a float32 dot product of unit vectors: once for the k-th score, once for the candidate's own.
    rough = rows @ texts.embeddings.T
    margin = 2 * rows.shape[1] * float(np.finfo(np.float32).eps)
    rankings = []
    for row, rough_scores in zip(rows, rough, strict=True):
        if top_k < len(texts):
            kth = np.partition(rough_scores, -top_k)[-top_k]
            candidates = np.flatnonzero(rough_scores >= kth - margin)
        else:
            candidates = np.arange(len(texts))
        rankings.append(_best_first(row, texts, candidates, calibration)[:top_k])
    return rankings


def rank_by_probability(
    row: NDArray[np.float32], texts: Texts, top_k: int, probabilities: Mapping[int, float]
) -> list[Match]:
    """The `top_k` texts with the highest of `probabilities` (by position, 0 if absent); equal ones by their scores."""
    uncalibrated = Calibration(1.0, 0.0)
    (best,) = rank(row[np.newaxis], texts, top_k, uncalibrated)
    positions = sorted({*probabilities, *(match.position for match in best)})
    matches = [
        replace(match, probability=probabilities.get(match.position, 0.0))
        for match in _best_first(row, texts, np.array(positions, np.intp), uncalibrated)
    ]
    return sorted(matches, key=lambda match: -match.probability)[:top_k]


def likely(matches: Iterable[Match], texts: Texts, min_probability: float | None) -> list[Match]:
    """Those of `matches` that reach `min_probability`, or if it is None the minimum of their text."""

    def limit(match: Match) -> float:
        if min_probability is not None:
            return min_probability
        return 0.0 if texts.min_probabilities is None else float(texts.min_probabilities[match.position])

    return [match for match in matches if match.probability >= limit(match)]


def _best_first(
    row: NDArray[np.float32], texts: Texts, positions: NDArray[np.intp], calibration: Calibration
) -> list[Match]:
    """The texts at ascending `positions`, best first; the sort is stable, so equal scores stay in text order."""
    scores = np.empty(len(positions))
    for start in range(0, len(positions), _BLOCK_TEXTS):
        block = slice(start, start + _BLOCK_TEXTS)
        scores[block] = dots(texts.embeddings[positions[block]], row)
    return [
        Match(texts.texts[positions[i]], int(positions[i]), float(scores[i]), calibration.probability(float(scores[i])))
        for i in np.argsort(-scores, kind="stable")
    ]
