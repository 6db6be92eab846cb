"""The encoders: frames and texts in, embeddings out."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from services.ingress.deadline import Deadline
from services.ingress.frame_buffer import FrameBuffer
from services.ingress.replicas import Lost, Replica, Replicas
from videoanalysis import tensors
from videoanalysis.errors import Overloaded, Unavailable, from_rpc_error
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

    async def model(self, deadline: Deadline) -> ModelInfo:
        """The model to which a video is pinned; Unavailable if its pictures have another size than ours."""

        async def attempt(replica: Replica, seconds: float) -> ModelInfo:
            answer: GetModelResponse = await _stub(replica).GetModel(GetModelRequest(), timeout=seconds)
            if answer.model.image_size != self._image_size:
                raise Unavailable(
                    f"the encoder's model takes pictures of {answer.model.image_size} pixels, the ingress samples "
                    f"{self._image_size}: the operator must set INGRESS_IMAGE_SIZE to the model's",
                    reason="IMAGE_SIZE_MISMATCH",
                )
            return answer.model

        return await self._replicas.call(attempt, deadline)

    async def encode(
        self, frames: FrameBuffer, count: int, chunk_key: str, model_digest: str, deadline: Deadline
    ) -> EncodedChunk:
        """Embed the `count` frames; raises ModelGone if no encoder serves the model any more."""
        header = ChunkHeader(
            frames=count,
            height=self._image_size,
            width=self._image_size,
            pixel_format=PIXEL_FORMAT_RGB24,
            model_digest=model_digest,
            chunk_key=chunk_key,
        )

        async def attempt(replica: Replica, seconds: float) -> EncodedChunk:
            return await _shake_hands(replica, header, frames, seconds)

        return await self._replicas.call(attempt, deadline, model_digest=model_digest)

    async def encode_texts(self, texts: Sequence[str], model_digest: str, deadline: Deadline) -> NDArray[np.float32]:
        """float32 [texts, embedding_dim], unit rows."""
        request = EncodeTextsRequest(texts=texts, model_digest=model_digest)

        async def attempt(replica: Replica, seconds: float) -> NDArray[np.float32]:
            answer: EncodeTextsResponse = await _stub(replica).EncodeTexts(request, timeout=seconds)
            return _rows(tensors.from_proto(answer.embeddings), len(texts))

        return await self._replicas.call(attempt, deadline, model_digest=model_digest)


async def _shake_hands(replica: Replica, header: ChunkHeader, frames: FrameBuffer, seconds: float) -> EncodedChunk:
    """Header, wait for admission, frames, result; no frame is sent to an encoder that refuses."""
    call = _stub(replica).EncodeChunk(timeout=seconds)
    try:
        await call.write(EncodeChunkRequest(header=header))
        answers: AsyncIterator[EncodeChunkResponse] = aiter(call)
        admission = await anext(answers, None)
        if admission is None or not admission.HasField("admitted"):
            raise Unavailable("the encoder ended the call without a word")
        try:
            return await _upload(call, answers, header, frames)
        except grpc.RpcError as error:
            failure = from_rpc_error(error)
            if isinstance(failure, Overloaded | Unavailable):
                raise Lost(failure.message, reason=failure.reason) from error
            raise
    finally:
        call.cancel()


async def _upload(
    call: Any, answers: AsyncIterator[EncodeChunkResponse], header: ChunkHeader, frames: FrameBuffer
) -> EncodedChunk:
    for piece in frames.pieces(_PIECE_BYTES):
        await call.write(EncodeChunkRequest(piece=piece))
    await call.done_writing()
    answer = await anext(answers, None)
    if answer is None or not answer.HasField("result"):
        raise Lost("the encoder ended the call without a result")
    embeddings = _rows(tensors.from_proto(answer.result.embeddings), header.frames)
    return EncodedChunk(embeddings, answer.result.compute.ToNanoseconds() / 1e9)


def _stub(replica: Replica) -> EncoderServiceStub:
    return EncoderServiceStub(replica.channel)  # type: ignore[no-untyped-call]


def _rows(embeddings: NDArray[np.floating[Any]], count: int) -> NDArray[np.float32]:
    if embeddings.ndim != 2 or len(embeddings) != count:
        raise Lost(f"the encoder answered with shape {list(embeddings.shape)} for {count} rows")
    return embeddings.astype(np.float32, copy=False)
