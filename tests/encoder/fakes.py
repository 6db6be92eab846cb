"""An engine whose work ends when the test says so, and helpers to wait."""

import asyncio
import threading
from collections.abc import Callable

import numpy as np

from services.encoder.engine import Encoded, Model

_POLL_SECONDS = 0.002

MODEL = Model(
    model_id="fake",
    revision="r1",
    digest="sha256:fake",
    embedding_dim=4,
    image_size=8,
    logit_scale=112.0,
    logit_bias=-16.5,
    precision="float32",
    device="cpu",
    engine="synthetic",
)


class FakeEngine:
    """`release` lets work go on; it is set unless a test clears it."""

    model = MODEL

    def __init__(self) -> None:
        self.release = threading.Event()
        self.release.set()
        self.running = 0
        self.most_running = 0
        self.seen: list[np.ndarray] = []
        self._lock = threading.Lock()

    def allocate(self, nbytes: int) -> np.ndarray:
        return np.zeros(nbytes, np.uint8)

    def encode(self, frames: np.ndarray) -> Encoded:
        with self._lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        assert self.release.wait(10)
        with self._lock:
            self.running -= 1
            self.seen.append(frames.copy())
        return Encoded(_unit_rows(len(frames)), compute_seconds=0.25)

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        assert self.release.wait(10)
        return _unit_rows(len(texts))

    def warm_up(self) -> Encoded:
        return self.encode(np.zeros((1, MODEL.image_size, MODEL.image_size, 3), np.uint8))


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for `condition`; raises TimeoutError after about `seconds`."""
    for _ in range(round(seconds / _POLL_SECONDS)):
        if condition():
            return
        await asyncio.sleep(_POLL_SECONDS)
    raise TimeoutError


def _unit_rows(count: int) -> np.ndarray:
    rows = np.zeros((count, MODEL.embedding_dim), np.float32)
    rows[np.arange(count), np.arange(count) % MODEL.embedding_dim] = 1
    return rows
