"""Joins chunks that wait at the same time into one computation."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from services.encoder.engine import Encoded

Frames = NDArray[np.uint8]


class ChunkBatcher:
    """Called from several threads, one chunk each; at most `max_chunks` of them share a computation.

    The first chunk waits up to `wait_seconds` for the others. Its thread computes for all; the other threads wait for
    it. The time is divided among the chunks by their numbers of frames.
    """

    def __init__(
        self, encode: Callable[[Sequence[Frames]], Encoded], *, max_chunks: int = 1, wait_seconds: float = 0.0
    ) -> None:
        self._encode = encode
        self._max_chunks = max_chunks
        self._wait_seconds = wait_seconds
        self._changed = threading.Condition()
        self._open: _Batch | None = None  # the one that chunks may still join

    def __call__(self, frames: Frames) -> Encoded:
        if self._max_chunks == 1:
            return self._encode([frames])
        with self._changed:
            batch = self._open
            if first := batch is None:
                batch = self._open = _Batch()
            index = batch.add(frames)
            if len(batch.chunks) == self._max_chunks:
                self._open = None
                self._changed.notify_all()
            if first:
                self._changed.wait_for(lambda: self._open is not batch, self._wait_seconds)
                if self._open is batch:
                    self._open = None
        if first:
            batch.compute(self._encode)
        return batch.results.result()[index]


class _Batch:
    def __init__(self) -> None:
        self.chunks: list[Frames] = []
        self.results: Future[list[Encoded]] = Future()

    def add(self, frames: Frames) -> int:
        self.chunks.append(frames)
        return len(self.chunks) - 1

    def compute(self, encode: Callable[[Sequence[Frames]], Encoded]) -> None:
        """Sets the results, or the exception that every chunk then raises."""
        try:
            encoded = encode(self.chunks)
            ends = list(accumulate(len(chunk) for chunk in self.chunks))
            parts = np.split(encoded.embeddings, ends[:-1])
            self.results.set_result([Encoded(part, encoded.compute_seconds * len(part) / ends[-1]) for part in parts])
        except BaseException as error:
            self.results.set_exception(error)
