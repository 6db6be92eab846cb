"""Arithmetic on embeddings with bit-identical results on every machine and in every batch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Tolerance of the length of a unit row; encoders that compute in bfloat16 stay well within it.
UNIT_TOLERANCE = 1e-3
# The mean of unit vectors shorter than this is rounding noise: they cancel each other.
_MIN_LENGTH = 1e-6


def dots(rows: NDArray[np.floating[Any]], vector: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """float64 [n]: each row of [n, D] times the vector [D].

    Summed by numpy, not by BLAS, whose result for a row depends on the rows in the same batch and on the processor.
    """
    sums: NDArray[np.float64] = (rows.astype(np.float64) * vector.astype(np.float64)).sum(axis=1)
    return sums


def normalised(vector: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """`vector` at unit length, or None if its length is rounding noise."""
    length = np.sqrt((vector * vector).sum())
    return (vector / length).astype(np.float32) if length > _MIN_LENGTH else None


def pool(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 [D]: the normalised mean of unit frames [n, D]; zeros, which no text resembles, if they cancel out."""
    pooled = normalised(frames.mean(axis=0, dtype=np.float64))
    return np.zeros(frames.shape[1], np.float32) if pooled is None else pooled
