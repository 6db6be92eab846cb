"""The dispatch of a real ingress: its own classes from the fair queue to the handshake, without sampling."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from benchmarks.dispatch.fleet import FRAMES, IMAGE_SIZE
from benchmarks.dispatch.workload import Chunk
from services.ingress.admission import ByteBudget, Deadline, Share
from services.ingress.dispatch import Encoders, Replicas, Static
from services.ingress.sampling import FrameBuffer
from videoanalysis.v1.encoder_pb2 import ModelInfo

_CHUNK_BYTES = FRAMES * IMAGE_SIZE**2 * 3
_DEADLINE_SECONDS = 600


class Ingress:
    """Encodes the same frames again and again."""

    def __init__(self, encoders: Encoders, model: ModelInfo, frames: FrameBuffer) -> None:
        self.failures: list[str] = []
        self._encoders = encoders
        self._model = model
        self._frames = frames

    @classmethod
    @asynccontextmanager
    async def over(cls, addresses: Sequence[str]) -> AsyncIterator["Ingress"]:
        frames = await FrameBuffer.allocate(_CHUNK_BYTES, ByteBudget(_CHUNK_BYTES))
        replicas = Replicas("encoder", Static(addresses), attempt_seconds=60, wait_seconds=30)
        try:
            async with replicas:
                encoders = Encoders(replicas, IMAGE_SIZE)
                model = await encoders.model(Deadline.after(_DEADLINE_SECONDS))
                yield cls(encoders, model, frames)
        finally:
            frames.close()

    async def encode(self, chunk: Chunk) -> bool:
        """Whether it was encoded; if not, `failures` has the reason."""
        deadline = Deadline.after(_DEADLINE_SECONDS)
        share = Share(caller="", video=chunk.video)
        try:
            await self._encoders.encode(self._frames, FRAMES, str(chunk.video), self._model, deadline, share)
        except Exception as error:
            self.failures.append(repr(error))
            return False
        return True
