"""Which texts are nearest to an embedding, and how sure the model is of each."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.decoder.vectors import dots

# Texts scored exactly at once: bounds the float64 copy of their embeddings to some tens of megabytes.
_BLOCK_TEXTS = 4096


@dataclass(frozen=True, slots=True)
class Texts:
    texts: tuple[str, ...]
    # float32 [texts, D], unit rows.
    embeddings: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The model's own scale and bias: probability = sigmoid(scale · cosine + bias)."""

    scale: float
    bias: float

    def probability(self, score: float) -> float:
        logit = self.scale * score + self.bias
        # exp of a negative number only: it cannot overflow.
        decay = math.exp(-abs(logit))
        return 1 / (1 + decay) if logit >= 0 else decay / (1 + decay)


@dataclass(frozen=True, slots=True)
class Match:
    text: str
    # Where it stands among the texts, from 0.
    position: int
    # Product of the row and the text, the cosine where the row has unit length.
    score: float
    probability: float


def rank(
    rows: NDArray[np.float32], texts: Texts, top_k: int, calibration: Calibration, min_probability: float = 0.0
) -> list[list[Match]]:
    """For each row of [n, D], none longer than 1, its best `top_k` texts, best first; equal scores in text order.

    Texts under `min_probability` are left out. A score depends on its row and text alone, to the last bit.
    """
    # One float32 product finds the candidates, whose scores are then computed exactly. The margin is twice the largest
    # error of a float32 dot product of unit vectors, for the score at the cut and for the candidate's own.
    rough = rows @ texts.embeddings.T
    margin = 2 * rows.shape[1] * float(np.finfo(np.float32).eps)
    rankings = []
    for row, row_rough in zip(rows, rough, strict=True):
        if top_k < len(texts):
            worst = np.partition(row_rough, -top_k)[-top_k]
            candidates = np.flatnonzero(row_rough >= worst - margin)
        else:
            candidates = np.arange(len(texts))
        best = _best_first(row, texts, candidates, calibration)[:top_k]
        rankings.append([match for match in best if match.probability >= min_probability])
    return rankings


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
