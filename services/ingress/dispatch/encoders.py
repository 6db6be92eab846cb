"""The encoders: frames and texts in, embeddings out."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.duration_pb2 import Duration
from numpy.typing import NDArray

from services.ingress.admission import Deadline, Share
from services.ingress.dispatch import answers, hedging, placement, retry
from services.ingress.dispatch.cold_start import ColdStart
from services.ingress.dispatch.failures import FailedAttempt, NoLongerServed, Unresponsive
from services.ingress.dispatch.latency import LatencyEstimator
from services.ingress.dispatch.queue import DispatchQueue
from services.ingress.dispatch.replica import Replica
from services.ingress.dispatch.replicas import Replicas
from services.ingress.sampling import FrameBuffer
from videoanalysis import call_log
from videoanalysis.chunk_upload import piece_head
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
_ENCODE_CHUNK = "/videoanalysis.v1.EncoderService/EncodeChunk"
_CHANNELS = 3  # of PIXEL_FORMAT_RGB24
# An encoder sends a heartbeat every second while a header is parked; one that sends nothing for this time is hung.
_HEARTBEAT_TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    embeddings: NDArray[np.float32]  # [frames, embedding_dim], unit rows
    compute_seconds: float


class Encoders:
    """Frames are RGB pictures of `image_size` x `image_size`."""

    def __init__(
        self, replicas: Replicas, image_size: int, *, heartbeat_timeout: float = _HEARTBEAT_TIMEOUT_SECONDS
    ) -> None:
        self._replicas = replicas
        self._image_size = image_size
        self._queue = DispatchQueue(lambda: placement.max_chunks_on_offer(len(replicas.by_address)))
        replicas.on_update.append(self._queue.grant)
        self._heartbeat_timeout = heartbeat_timeout
        self._ingress_id = secrets.token_hex(8)
        self._frame_time = LatencyEstimator(replicas.attempt_seconds)
        self._model_time = LatencyEstimator(replicas.attempt_seconds)

    @property
    def cold_start(self) -> ColdStart:
        return self._replicas.cold_start

    async def model(self, deadline: Deadline, other_than: Collection[str] = ()) -> ModelInfo:
        """A model that is served now and whose digest is not in `other_than`.

        Raises NoLongerServed if there is none, Unavailable if its image size is not ours.
        """

        async def attempt(replica: Replica, seconds: float) -> ModelInfo:
            model = await self._model_of(replica, seconds)
            if model.digest in other_than:
                raise NoLongerServed(f"the encoder serves {model.digest}")
            return model

        return await retry.call(self._replicas, attempt, deadline, service_time=self._model_time)

    async def model_again(self, digest: str, deadline: Deadline) -> ModelInfo:
        """The model of a resumed video; raises NoLongerServed if no encoder serves it any more."""

        async def attempt(replica: Replica, seconds: float) -> ModelInfo:
            model = await self._model_of(replica, seconds)
            if model.digest != digest:
                raise NoLongerServed(f"the encoder serves {model.digest}")
            return model

        return await retry.call(self._replicas, attempt, deadline, needs=digest, service_time=self._model_time)

    async def _model_of(self, replica: Replica, seconds: float) -> ModelInfo:
        answer: GetModelResponse = answers.received(
            await _stub(replica).GetModel(GetModelRequest(), timeout=seconds, metadata=call_log.passed_on())
        )
        answers.check_model(answer.model)
        if answer.model.image_size != self._image_size:
            raise Unavailable(
                f"the encoder's model takes pictures of {answer.model.image_size} pixels, the ingress samples "
                f"{self._image_size}: the operator must set INGRESS_IMAGE_SIZE to the model's",
                reason=ErrorReason.IMAGE_SIZE_MISMATCH,
            )
        return answer.model

    async def encode(
        self, frames: FrameBuffer, count: int, chunk_key: str, model: ModelInfo, deadline: Deadline, share: Share
    ) -> EncodedChunk:
        """Embeds the first `count` frames with `model`, once the queue reaches `share`.

        Raises NoLongerServed if no encoder serves the model any more.
        """
        async with self._queue.slot(share) as slot:
            offered_at = time.monotonic()

            def offer(replica: Replica) -> _ChunkOffer:
                header = ChunkHeader(
                    frames=count,
                    height=self._image_size,
                    width=self._image_size,
                    pixel_format=PIXEL_FORMAT_RGB24,
                    model_digest=model.digest,
                    chunk_key=chunk_key,
                    ingress_id=self._ingress_id,
                    waited=_duration(time.monotonic() - offered_at),
                )
                # Requests are serialized where they are written.
                encode_chunk = replica.channel.stream_stream(_ENCODE_CHUNK, None, EncodeChunkResponse.FromString)
                call = encode_chunk(timeout=deadline.remaining(), metadata=call_log.passed_on())
                return _ChunkOffer(call, header, frames, model.embedding_dim, self._heartbeat_timeout)

            return await hedging.place(
                self._replicas,
                offer,
                deadline,
                needs=model.digest,
                service_time=self._frame_time,
                units=count,
                on_admitted=slot.release,
            )

    async def encode_texts(self, texts: Sequence[str], model: ModelInfo, deadline: Deadline) -> NDArray[np.float32]:
        """float32 [texts, embedding_dim], unit rows."""
        request = EncodeTextsRequest(texts=texts, model_digest=model.digest)

        async def attempt(replica: Replica, seconds: float) -> NDArray[np.float32]:
            answer: EncodeTextsResponse = answers.received(
                await _stub(replica).EncodeTexts(request, timeout=seconds, metadata=call_log.passed_on())
            )
            answers.require(answer.model_digest == model.digest, f"texts of model {answer.model_digest}")
            return answers.unit_rows(answer.embeddings, len(texts), model.embedding_dim)

        return await retry.call(self._replicas, attempt, deadline, needs=model.digest)


class _ChunkOffer:
    """One chunk offered to one encoder: header, admission, frames, result. No frame is sent before admission."""

    def __init__(
        self, call: Any, header: ChunkHeader, frames: FrameBuffer, embedding_dim: int, heartbeat_timeout: float
    ) -> None:
        self._call = call
        self._responses: AsyncIterator[EncodeChunkResponse] = aiter(call)
        self._header = header
        self._frames = frames
        self._embedding_dim = embedding_dim
        self._heartbeat_timeout = heartbeat_timeout
        self.seconds, self.other_chunks_in_flight = 0.0, 0

    async def admitted(self) -> None:
        try:
            async with asyncio.timeout(self._heartbeat_timeout) as silence:
                with suppress(asyncio.InvalidStateError):
                    await self._call.write(EncodeChunkRequest(header=self._header).SerializeToString())
                while (response := await anext(self._responses, None)) is not None and response.HasField("parked"):
                    silence.reschedule(asyncio.get_running_loop().time() + self._heartbeat_timeout)
        except TimeoutError as error:
            raise Unresponsive(f"it sent nothing within {self._heartbeat_timeout:g} s") from error
        if response is None or not response.HasField("admitted"):
            raise Unavailable("the encoder ended the call before it admitted the chunk")

    async def result(self) -> EncodedChunk:
        started = time.monotonic()
        # grpc.aio raises this when the encoder has ended the call; its status is read where the answer would be.
        with suppress(asyncio.InvalidStateError):
            size = self._header.frames * self._header.height * self._header.width * _CHANNELS
            for message in self._frames.pieces(_PIECE_BYTES, size, piece_head):
                await self._call.write(message)
            await self._call.done_writing()
        response = await anext(self._responses, None)
        if response is None or not response.HasField("result"):
            raise FailedAttempt("the encoder ended the call without a result")
        result, header = response.result, self._header
        answers.require(result.model_digest == header.model_digest, f"embeddings of model {result.model_digest}")
        embeddings = answers.unit_rows(result.embeddings, header.frames, self._embedding_dim)
        self.seconds = result.compute.ToNanoseconds() / 1e9
        answers.require(0 <= self.seconds <= time.monotonic() - started, f"{self.seconds} s of work")
        self.other_chunks_in_flight = result.other_chunks_in_flight
        return EncodedChunk(embeddings, self.seconds)

    def cancel(self) -> None:
        self._call.cancel()


def _stub(replica: Replica) -> EncoderServiceStub:
    return EncoderServiceStub(replica.channel)  # type: ignore[no-untyped-call]


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
