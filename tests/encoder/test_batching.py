import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest

from services.encoder.batching import ChunkBatcher
from services.encoder.engine import Encoded

LONG = 30.0


class Encoder:
    """Embeds a frame by its first byte; counts the chunks of each computation."""

    def __init__(self) -> None:
        self.joined: list[int] = []
        self.error: Exception | None = None

    def __call__(self, chunks: Sequence[np.ndarray]) -> Encoded:
        self.joined.append(len(chunks))
        if self.error is not None:
            raise self.error
        frames = np.concatenate(chunks)
        return Encoded(frames[:, :1].astype(np.float32), compute_seconds=float(len(frames)))


def chunk(value: int, frames: int) -> np.ndarray:
    return np.full((frames, 2), value, np.uint8)


def encode_together(batcher: ChunkBatcher, chunks: list[np.ndarray]) -> list[Encoded]:
    with ThreadPoolExecutor(len(chunks)) as threads:
        return list(threads.map(batcher, chunks))


def test_chunks_are_not_joined_by_default():
    encoder = Encoder()
    batcher = ChunkBatcher(encoder, wait_seconds=LONG)
    encode_together(batcher, [chunk(1, 2), chunk(2, 2)])
    assert encoder.joined == [1, 1]


def test_chunks_that_wait_share_a_computation_and_each_gets_its_own_rows():
    encoder = Encoder()
    chunks = [chunk(7, 16), chunk(8, 3), chunk(9, 5)]
    results = encode_together(ChunkBatcher(encoder, max_chunks=3, wait_seconds=LONG), chunks)
    assert encoder.joined == [3]
    for frames, result in zip(chunks, results, strict=True):
        assert np.array_equal(result.embeddings, frames[:, :1])


def test_each_chunk_counts_the_share_of_its_frames():
    results = encode_together(ChunkBatcher(Encoder(), max_chunks=2, wait_seconds=LONG), [chunk(1, 12), chunk(2, 4)])
    assert [result.compute_seconds for result in results] == [12, 4]


def test_a_chunk_that_no_other_joins_is_computed_alone_after_the_wait():
    encoder = Encoder()
    result = ChunkBatcher(encoder, max_chunks=2, wait_seconds=0.01)(chunk(5, 2))
    assert encoder.joined == [1]
    assert result.embeddings.tolist() == [[5], [5]]


def test_no_more_than_the_limit_are_joined():
    encoder = Encoder()
    encode_together(ChunkBatcher(encoder, max_chunks=2, wait_seconds=0.2), [chunk(value, 1) for value in range(7)])
    assert max(encoder.joined) == 2
    assert sum(encoder.joined) == 7


def test_chunks_that_come_during_a_computation_are_joined_to_the_next():
    computing, go_on = threading.Event(), threading.Event()
    encoder = Encoder()

    def encode(chunks: Sequence[np.ndarray]) -> Encoded:
        computing.set()
        assert go_on.wait(10)
        return encoder(chunks)

    batcher = ChunkBatcher(encode, max_chunks=2, wait_seconds=LONG)
    with ThreadPoolExecutor(4) as threads:
        first = [threads.submit(batcher, chunk(value, 1)) for value in (1, 2)]
        assert computing.wait(10)
        second = [threads.submit(batcher, chunk(value, 1)) for value in (3, 4)]
        go_on.set()
        assert [each.result().embeddings.item() for each in (*first, *second)] == [1, 2, 3, 4]
    assert encoder.joined == [2, 2]


def test_an_error_reaches_every_chunk_of_the_computation_and_not_the_next():
    encoder = Encoder()
    encoder.error = RuntimeError("out of memory")
    batcher = ChunkBatcher(encoder, max_chunks=2, wait_seconds=LONG)
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(batcher, chunk(value, 1)) for value in (1, 2)]
        wait(calls)
        for call in calls:
            with pytest.raises(RuntimeError, match="out of memory"):
                call.result()
    encoder.error = None
    assert len(encode_together(batcher, [chunk(1, 1), chunk(2, 1)])) == 2
