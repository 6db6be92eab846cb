"""The encoders: frames and texts in, embeddings out."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.ingress.admission.deadline import Deadline
from services.ingress.admission.fair_queue import Share
from services.ingress.dispatch.cold_start import ColdStart
from services.ingress.dispatch.latency import LatencyEstimator
from services.ingress.dispatch.queue import DispatchQueue
from services.ingress.dispatch.replica import Replica
from services.ingress.dispatch.replicas import Gone, Lost, Replicas
from services.ingress.sampling.frame_buffer import FrameBuffer
from videoanalysis import tensors
from videoanalysis.errors import Unavailable
from videoanalysis.v1.encoder_pb2 import (
    PIXEL_FORMAT_RGB24,
    ChunkHeader,
    EncodeChunkRequest,
    EncodeChunkResponse,
    EncodeTextsRequest,
    EncodeTextsResponse,
    GetModelRequest,
    GetModelResponse,
    ModelInfo,
)
from videoanalysis.v1.encoder_pb2_grpc import EncoderServiceStub
from videoanalysis.v1.error_reason_pb2 import ErrorReason

# Measured on loopback with 7 MB chunks: 8 pieces cost the least CPU, and each stays far under gRPC's default limit.
_PIECE_BYTES = 900 << 10


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    embeddings: NDArray[np.float32]  # [frames, embedding_dim], unit rows
    compute_seconds: float


class Encoders:
    """Frames are RGB pictures of `image_size` x `image_size`."""

    def __init__(self, replicas: Replicas, image_size: int) -> None:
        self._replicas = replicas
        self._image_size = image_size
        # Two waiting for each encoder: one takes over when a place becomes free, the other while that is under way.
        self.line = DispatchQueue(lambda: 2 * len(replicas.by_address))
        self._frame_time = LatencyEstimator(replicas.attempt_seconds)
        self._model_time = LatencyEstimator(replicas.attempt_seconds)

    @property
    def cold_start(self) -> ColdStart:
        return self._replicas.cold_start

    async def model(self, deadline: Deadline, other_than: Collection[str] = ()) -> ModelInfo:
        """A model that is served now, to which a video may be pinned, of none of the digests `other_than`.

        Raises Gone if there is none, Unavailable if its pictures have another size than ours.
        """

        async def attempt(replica: Replica, seconds: float) -> ModelInfo:
            model = await self._model_of(replica, seconds)
            if model.digest in other_than:
                raise Gone(f"the encoder serves {model.digest}")
            return model

        return await self._replicas.call(attempt, deadline, service_time=self._model_time)

    async def model_again(self, digest: str, deadline: Deadline) -> ModelInfo:
        """The model to which a video was pinned before; raises Gone if no encoder serves it any more."""

        async def attempt(replica: Replica, seconds: float) -> ModelInfo:
            model = await self._model_of(replica, seconds)
            if model.digest != digest:
                raise Gone(f"the encoder serves {model.digest}")
            return model

        return await self._replicas.call(attempt, deadline, needs=digest, service_time=self._model_time)

    async def _model_of(self, replica: Replica, seconds: float) -> ModelInfo:
        answer: GetModelResponse = await _stub(replica).GetModel(GetModelRequest(), timeout=seconds)
        if answer.model.image_size != self._image_size:
            raise Unavailable(
                f"the encoder's model takes pictures of {answer.model.image_size} pixels, the ingress samples "
                f"{self._image_size}: the operator must set INGRESS_IMAGE_SIZE to the model's",
                reason=ErrorReason.IMAGE_SIZE_MISMATCH,
            )
        return answer.model

    async def encode(
        self, frames: FrameBuffer, count: int, chunk_key: str, model_digest: str, deadline: Deadline, share: Share
    ) -> EncodedChunk:
        """Embed the `count` frames, when the turn of `share` has come and an encoder has room.

        Raises Gone if no encoder serves the model any more.
        """
        header = ChunkHeader(
            frames=count,
            height=self._image_size,
            width=self._image_size,
            pixel_format=PIXEL_FORMAT_RGB24,
            model_digest=model_digest,
            chunk_key=chunk_key,
        )
        async with self.line.turn(share) as turn:
            return await self._replicas.place(
                lambda replica: _Handshake(replica, header, frames, deadline.remaining()),
                deadline,
                needs=model_digest,
                service_time=self._frame_time,
                units=count,
                on_admitted=turn.admitted,
                on_refused=turn.refused,
            )

    async def encode_texts(self, texts: Sequence[str], model_digest: str, deadline: Deadline) -> NDArray[np.float32]:
        """float32 [texts, embedding_dim], unit rows."""
        request = EncodeTextsRequest(texts=texts, model_digest=model_digest)

        async def attempt(replica: Replica, seconds: float) -> NDArray[np.float32]:
            answer: EncodeTextsResponse = await _stub(replica).EncodeTexts(request, timeout=seconds)
            return _rows(tensors.from_proto(answer.embeddings), len(texts))

        return await self._replicas.call(attempt, deadline, needs=model_digest)


class _Handshake:
    """One chunk offered to one encoder: header, admission, frames, result. No frame is sent before admission."""

    def __init__(self, replica: Replica, header: ChunkHeader, frames: FrameBuffer, seconds: float) -> None:
        self._call: Any = _stub(replica).EncodeChunk(timeout=seconds)
        self._answers: AsyncIterator[EncodeChunkResponse] = aiter(self._call)
        self._header = header
        self._frames = frames
        self.seconds, self.other_chunks_in_flight = 0.0, 0

    async def admitted(self) -> None:
        with suppress(asyncio.InvalidStateError):
            await self._call.write(EncodeChunkRequest(header=self._header))
        answer = await anext(self._answers, None)
        if answer is None or not answer.HasField("admitted"):
            raise Unavailable("the encoder ended the call without a word")

    async def result(self) -> EncodedChunk:
        # So grpc.aio says that the encoder has ended the call meanwhile; why, is read where the answer would be.
        with suppress(asyncio.InvalidStateError):
            for piece in self._frames.pieces(_PIECE_BYTES):
                await self._call.write(EncodeChunkRequest(piece=piece))
            await self._call.done_writing()
        answer = await anext(self._answers, None)
        if answer is None or not answer.HasField("result"):
            raise Lost("the encoder ended the call without a result")
        embeddings = _rows(tensors.from_proto(answer.result.embeddings), self._header.frames)
        self.seconds, self.other_chunks_in_flight = (
            answer.result.compute.ToNanoseconds() / 1e9,
            answer.result.other_chunks_in_flight,
        )
        return EncodedChunk(embeddings, self.seconds)

    def withdraw(self) -> None:
        self._call.cancel()


def _stub(replica: Replica) -> EncoderServiceStub:
    return EncoderServiceStub(replica.channel)  # type: ignore[no-untyped-call]


def _rows(embeddings: NDArray[np.floating[Any]], count: int) -> NDArray[np.float32]:
    if embeddings.ndim != 2 or len(embeddings) != count:
        raise Lost(f"the encoder answered with shape {list(embeddings.shape)} for {count} rows")
    return embeddings.astype(np.float32, copy=False)
