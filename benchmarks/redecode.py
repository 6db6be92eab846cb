"""Seconds on one core for an hour of stored embeddings decoded again, compared with ranking alone in numpy.

taskset -c 0 python -m benchmarks.redecode [MINUTES]
"""

import asyncio
import sys
import time

import numpy as np
from numpy.typing import NDArray

from videoanalysis import tensors
from videoanalysis.client import AsyncClient
from videoanalysis.stack.stack import Stack
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, ChunkResult

FRAMES, CHUNK_SECONDS, TEXTS = 16, 10, 60


async def main() -> None:
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    stack = Stack(engine="synthetic")
    async with stack, AsyncClient(stack.address) as client:
        model = (await client.analyze("sample://clip")).message.model
        frames = embeddings(60 * minutes // CHUNK_SECONDS, model.embedding_dim)
        stored = AnalyzeVideoResponse(model=model, chunks=[chunk(index, rows) for index, rows in enumerate(frames)])
        began = time.monotonic()
        answer = await client.redecode(stored)
        seconds = time.monotonic() - began
    began = time.monotonic()
    texts = embeddings(1, model.embedding_dim, TEXTS)[0].astype(np.float32)
    for rows in frames:
        np.argsort(texts @ rows.astype(np.float32).mean(axis=0))
    alone = time.monotonic() - began
    hours = minutes / 60
    print("| embeddings | scenes | seconds per hour of video | of ranking alone in numpy |")
    print("|---|---|---|---|")
    print(f"| {model.embedding_dim} | {len(answer.scenes)} | {seconds / hours:.1f} | {seconds / alone:.0f} |")


def embeddings(chunks: int, dimensions: int, frames: int = FRAMES) -> NDArray[np.float16]:
    """float16 [chunks, frames, dimensions], unit rows: one picture for each chunk, and a little noise."""
    random = np.random.default_rng(1)
    rows = random.normal(size=(chunks, 1, dimensions)) + 0.1 * random.normal(size=(chunks, frames, dimensions))
    return (rows / np.linalg.norm(rows, axis=2, keepdims=True)).astype(np.float16)


def chunk(index: int, rows: NDArray[np.float16]) -> ChunkResult:
    start = float(CHUNK_SECONDS * index)
    return ChunkResult(
        chunk_index=index,
        start_seconds=start,
        duration_seconds=CHUNK_SECONDS,
        frame_times_seconds=[start + i * CHUNK_SECONDS / FRAMES for i in range(FRAMES)],
        embeddings=tensors.to_proto(rows),
    )


if __name__ == "__main__":
    asyncio.run(main())
