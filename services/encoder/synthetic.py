"""A synthetic engine for load tests: made-up embeddings in the time that a GPU takes, without torch."""

import hashlib
import threading
import time
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from services.encoder.engine import Encoded, Model

_SEED = 20_231_103
_BLOCKS = 8
_FRAMES_PER_CHUNK = 16


class SyntheticEngine:
    """Embeds a picture by the mean colours of 8 × 8 blocks, so that similar pictures have similar embeddings.

    Equal pictures have bit-identical embeddings in any chunk and on any machine: the sums are of integers, exact in
    float64. Chunks take `service_ms` per 16 frames, one at a time, as on a GPU.
    """

    def __init__(self, *, image_size: int, embedding_dim: int, service_ms: float) -> None:
        identity = f"synthetic/1 image_size={image_size} embedding_dim={embedding_dim}"
        self._model = Model(
            model_id="synthetic",
            revision="",
            digest=f"sha256:{hashlib.sha256(identity.encode()).hexdigest()}",
            embedding_dim=embedding_dim,
            image_size=image_size,
            logit_scale=112.0,
            logit_bias=-16.5,
            precision="float32",
            device="cpu",
            engine="synthetic",
        )
        self._seconds_per_frame = service_ms / 1000 / _FRAMES_PER_CHUNK
        self._accelerator = threading.Lock()
        features = _BLOCKS * _BLOCKS * 3 + 1
        # The last feature is constant: no picture has length zero.
        weights = np.random.default_rng(_SEED).integers(1, 128, (features, embedding_dim))
        signs = np.random.default_rng(_SEED + 1).choice([-1, 1], weights.shape)
        self._projection = (weights * signs).astype(np.float64)
        self._edges = np.linspace(0, image_size, _BLOCKS + 1).astype(int)

    @property
    def model(self) -> Model:
        return self._model

    def allocate(self, nbytes: int) -> NDArray[np.uint8]:
        return np.empty(nbytes, np.uint8)

    def encode(self, frames: NDArray[np.uint8]) -> Encoded:
        """Embeds pictures, uint8 [frames, image_size, image_size, 3]; raises ValueError for another shape."""
        size = self._model.image_size
        if frames.shape[1:] != (size, size, 3):
            raise ValueError(f"frames of shape {list(frames.shape)}, not [n, {size}, {size}, 3]")
        with self._accelerator:
            started = time.perf_counter()
            # Not BLAS, whose threads spin after the product and take cores from the services under load.
            embeddings = _unit_rows(np.einsum("nf,fd->nd", self._features(frames), self._projection))
            time.sleep(max(0.0, started + len(frames) * self._seconds_per_frame - time.perf_counter()))
            return Encoded(embeddings, time.perf_counter() - started)

    def encode_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """float32 [texts, embedding_dim], unit rows: random, the same for the same text."""
        rows = [
            np.random.default_rng(list(hashlib.sha256(text.encode()).digest())).standard_normal(
                self._model.embedding_dim
            )
            for text in texts
        ]
        return _unit_rows(np.stack(rows))

    def warm_up(self) -> Encoded:
        return self.encode(np.zeros((1, self._model.image_size, self._model.image_size, 3), np.uint8))

    def _features(self, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Twice the sum of each block's channel minus that of medium grey, and a constant."""
        bands = [frames[:, top:bottom].sum(axis=1, dtype=np.uint32) for top, bottom in pairwise(self._edges)]
        sums = np.add.reduceat(np.stack(bands, axis=1), self._edges[:-1], axis=2)
        extents = np.diff(self._edges)
        grey = 255 * np.outer(extents, extents)[:, :, np.newaxis]
        centred = (2 * sums.astype(np.int64) - grey).reshape(len(frames), -1)
        return np.pad(centred, ((0, 0), (0, 1)), constant_values=255).astype(np.float64)


def _unit_rows(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    unit: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit.astype(np.float32)
