import numpy as np
import pytest

from tests.decoder.samples import unit_rows
from videoanalysis.embeddings import dots, normalised, pool


@pytest.mark.parametrize("dimensions", [1, 7, 8, 127, 129, 768, 1152])
def test_a_dot_product_is_the_same_to_the_last_bit_in_any_batch(dimensions):
    rows, vector = unit_rows(33, dimensions), unit_rows(1, dimensions, seed=1)[0]
    together = dots(rows, vector)
    assert together.dtype == np.float64
    assert [dots(row[np.newaxis], vector)[0] for row in rows] == together.tolist()
    np.testing.assert_allclose(together, rows.astype(np.float64) @ vector.astype(np.float64), atol=1e-14)


def test_pooling_is_the_normalised_mean():
    frames = unit_rows(16, 64)
    mean = np.mean(frames.astype(np.float64), axis=0)
    pooled = pool(frames)
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, mean / np.linalg.norm(mean), atol=1e-7)


def test_frames_that_cancel_out_pool_to_zeros_not_to_nan():
    frame = unit_rows(1)[0]
    np.testing.assert_array_equal(pool(np.stack([frame, -frame])), np.zeros(len(frame)))
    assert normalised(np.zeros(3)) is None
