"""The ingress's real placement, as far as a benchmark sees it: the one place that knows its interface."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from benchmarks.dispatch.fleet import FRAMES, IMAGE_SIZE
from benchmarks.dispatch.workload import Chunk
from services.ingress.admission.byte_budget import ByteBudget
from services.ingress.admission.deadline import Deadline
from services.ingress.admission.fair_queue import Share
from services.ingress.dispatch.discovery import Static
from services.ingress.dispatch.encoders import Encoders
from services.ingress.dispatch.replicas import Replicas
from services.ingress.sampling.frame_buffer import FrameBuffer

_CHUNK_BYTES = FRAMES * IMAGE_SIZE**2 * 3
_DEADLINE_SECONDS = 600


class Placement:
    """Frames that are there already, placed as the ingress places those that it has sampled."""

    def __init__(self, encoders: Encoders, model_digest: str, frames: FrameBuffer) -> None:
        self.failures: list[str] = []
        self._encoders = encoders
        self._model_digest = model_digest
        self._frames = frames

    @classmethod
    @asynccontextmanager
    async def over(cls, addresses: Sequence[str]) -> AsyncIterator["Placement"]:
        frames = await FrameBuffer.allocate(_CHUNK_BYTES, ByteBudget(_CHUNK_BYTES))
        replicas = Replicas("encoder", Static(addresses), attempt_seconds=60, wait_seconds=30)
        try:
            async with replicas:
                encoders = Encoders(replicas, IMAGE_SIZE)
                model = await encoders.model(Deadline.after(_DEADLINE_SECONDS))
                yield cls(encoders, model.digest, frames)
        finally:
            frames.close()

    async def encode(self, chunk: Chunk) -> bool:
        """Until its embeddings are there; whether they are, otherwise `failures` tells why."""
        deadline = Deadline.after(_DEADLINE_SECONDS)
        share = Share(caller="", video=chunk.video)
        try:
            await self._encoders.encode(self._frames, FRAMES, str(chunk.video), self._model_digest, deadline, share)
        except Exception as error:
            self.failures.append(repr(error))
            return False
        return True
