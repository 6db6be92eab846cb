"""The encoders: frames and texts in, embeddings out."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.ingress.deadline import Deadline
from services.ingress.frame_buffer import FrameBuffer
from services.ingress.replicas import Replica, Replicas
from videoanalysis import tensors
from videoanalysis.errors import Unavailable
from videoanalysis.v1.encoder_pb2 import (
    PIXEL_FORMAT_RGB24,
    ChunkHeader,
    EncodeChunkRequest,
    EncodeTextsRequest,
    GetModelRequest,
    ModelInfo,
)
from videoanalysis.v1.encoder_pb2_grpc import EncoderServiceStub

# Measured on loopback with 7 MB chunks: 8 pieces cost the least CPU, and each stays far under gRPC's default limit.
_PIECE_BYTES = 900 << 10


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    embeddings: NDArray[np.float32]  # [frames, embedding_dim], unit rows
    compute_seconds: float


class Encoders:
    def __init__(self, replicas: Replicas, image_size: int) -> None:
        self._replicas = replicas
        self._image_size = image_size

    async def model(self, deadline: Deadline) -> ModelInfo:
        """The model to which a video is pinned; Unavailable if its pictures have another size than ours."""

        async def attempt(replica: Replica, timeout: float) -> ModelInfo:
            response = await EncoderServiceStub(replica.channel).GetModel(GetModelRequest(), timeout=timeout)
            return response.model

        model = await self._replicas.call(attempt, deadline)
        if model.image_size != self._image_size:
            raise Unavailable(
                f"the encoder's model takes pictures of {model.image_size} pixels, the ingress samples "
                f"{self._image_size}: the operator must set INGRESS_IMAGE_SIZE to the model's",
                reason="IMAGE_SIZE_MISMATCH",
            )
        return model

    async def encode(
        self, frames: FrameBuffer, count: int, chunk_key: str, model_digest: str, deadline: Deadline
    ) -> EncodedChunk:
        header = ChunkHeader(
            frames=count,
            height=self._image_size,
            width=self._image_size,
            pixel_format=PIXEL_FORMAT_RGB24,
            model_digest=model_digest,
            chunk_key=chunk_key,
        )

        async def attempt(replica: Replica, timeout: float) -> EncodedChunk:
            return await _handshake(replica, header, frames, timeout)

        return await self._replicas.call(attempt, deadline)

    async def encode_texts(self, texts: Sequence[str], model_digest: str, deadline: Deadline) -> NDArray[np.float32]:
        """float32 [texts, embedding_dim], unit rows."""
        request = EncodeTextsRequest(texts=texts, model_digest=model_digest)

        async def attempt(replica: Replica, timeout: float) -> NDArray[np.float32]:
            response = await EncoderServiceStub(replica.channel).EncodeTexts(request, timeout=timeout)
            return _rows(tensors.from_proto(response.embeddings), len(texts))

        return await self._replicas.call(attempt, deadline)


async def _handshake(replica: Replica, header: ChunkHeader, frames: FrameBuffer, timeout: float) -> EncodedChunk:
    """Header, wait for admission, frames, result; no frame is sent to an encoder that refuses."""
    call = EncoderServiceStub(replica.channel).EncodeChunk(timeout=timeout)
    try:
        await call.write(EncodeChunkRequest(header=header))
        responses: AsyncIterator = aiter(call)
        admitted = await anext(responses, None)
        if admitted is None or not admitted.HasField("admitted"):
            raise Unavailable("the encoder ended the call before admitting it")
        for piece in frames.pieces(_PIECE_BYTES):
            await call.write(EncodeChunkRequest(piece=piece))
        await call.done_writing()
        answer = await anext(responses, None)
    finally:
        call.cancel()
    if answer is None or not answer.HasField("result"):
        raise Unavailable("the encoder ended the call without a result")
    embeddings = _rows(tensors.from_proto(answer.result.embeddings), header.frames)
    return EncodedChunk(embeddings, answer.result.compute.ToNanoseconds() / 1e9)


def _rows(embeddings: NDArray, count: int) -> NDArray[np.float32]:
    if embeddings.ndim != 2 or len(embeddings) != count:
        raise Unavailable(f"the encoder answered with shape {embeddings.shape} for {count} rows")
    return embeddings.astype(np.float32, copy=False)
