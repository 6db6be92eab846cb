"""Videos sampled through a pool, and what must come of it."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.ingress.admission import ByteBudget
from services.ingress.sampling.frame_buffer import FrameBuffer
from services.ingress.sampling.media import WholeFile
from services.ingress.sampling.pool import SamplingPool
from services.ingress.sampling.sampled_chunk import SampledChunk
from services.ingress.sampling.sampled_video import SampledVideo, SamplingSpec, VideoEnd, WorkerLimits
from tests.ingress.sampling import oracle

LIMITS = WorkerLimits(
    memory_bytes=1 << 30,
    cpu_seconds=100,
    stall_seconds=60,
    max_pixels=8192 * 4320,
    max_video_seconds=3600,
    max_packets=100_000,
)
SPEC = SamplingSpec(frames_per_chunk=4, chunk_duration=Fraction(1), image_size=32)


@dataclass
class Piece:
    chunk: SampledChunk
    pixels: NDArray[np.uint8]  # [frames, image_size, image_size, 3]


class ArrivingMedia:
    """A file of which no byte is there before it is fetched; `on_fetch` is called for every such request."""

    complete = False
    bytes_fetched = 0

    def __init__(self, path: Path | None = None, on_fetch: Callable[[], None] = lambda: None) -> None:
        content = path.read_bytes() if path else bytes(1000)
        self.size = len(content)
        self.fd = os.memfd_create("media")
        os.truncate(self.fd, self.size)
        self.fetched: list[tuple[int, int]] = []
        self._content = content
        self._on_fetch = on_fetch

    async def fetch(self, start: int, end: int) -> int:
        self._on_fetch()
        end = min(end, self.size)
        self.fetched.append((start, end))
        os.pwrite(self.fd, self._content[start:end], start)
        return end

    def close(self) -> None:
        os.close(self.fd)


class StalledMedia(ArrivingMedia):
    """A file whose bytes never come."""

    async def fetch(self, start: int, end: int) -> int:
        return await asyncio.get_running_loop().create_future()


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


async def next_piece(video: SampledVideo, spec: SamplingSpec = SPEC) -> Piece | None:
    buffer = await FrameBuffer.allocate(spec.chunk_bytes, ByteBudget(spec.chunk_bytes))
    try:
        chunk = await video.next_chunk(buffer)
        if chunk is None:
            return None
        pixels = np.frombuffer(b"".join(buffer.pieces(1 << 20)), np.uint8)
        frames = pixels.reshape(spec.frames_per_chunk, spec.image_size, spec.image_size, 3)
        return Piece(chunk, frames[list(chunk.frame_indices)])
    finally:
        buffer.close()


async def rest_of(video: SampledVideo, spec: SamplingSpec = SPEC) -> list[Piece]:
    pieces = []
    while (piece := await next_piece(video, spec)) is not None:
        pieces.append(piece)
    return pieces


async def sample(pool: SamplingPool, path: Path, spec: SamplingSpec = SPEC) -> tuple[list[Piece], VideoEnd]:
    with opened(path) as fd:
        async with pool.sample(WholeFile.of(fd), spec) as video:
            await video.open()
            pieces = await rest_of(video, spec)
            assert video.end is not None
            return pieces, video.end


def check(pieces: list[Piece], path: Path, spec: SamplingSpec = SPEC) -> None:
    """Raises AssertionError unless `pieces` are those of a full decode, bit for bit."""
    expected = oracle.expected(path, spec.frames_per_chunk, spec.chunk_duration, spec.image_size)
    wanted = list(enumerate(expected.chunks))[spec.first_chunk :]
    chunks = [piece.chunk for piece in pieces]
    assert [(chunk.index, chunk.start, chunk.duration, chunk.frame_times) for chunk in chunks] == [
        (index, chunk.start, chunk.duration, chunk.frame_times) for index, chunk in wanted
    ]
    for piece, (_, chunk) in zip(pieces, wanted, strict=True):
        assert np.array_equal(piece.pixels, chunk.pixels)
