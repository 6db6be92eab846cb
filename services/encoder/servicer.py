"""EncoderService: converts messages to values and back. Admission and the model are in other modules."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from dataclasses import asdict

import grpc
import numpy as np
import structlog
from google.protobuf.duration_pb2 import Duration
from numpy.typing import NDArray

from services.encoder import metrics
from services.encoder.admission import Admission
from services.encoder.engine import Encoded, Engine
from videoanalysis import call_log, chunk_upload, tensors, tracing
from videoanalysis.errors import DeadlineExceeded, FailedPrecondition, InvalidInput
from videoanalysis.v1 import encoder_pb2_grpc
from videoanalysis.v1.encoder_pb2 import (
    DESCRIPTOR,
    PIXEL_FORMAT_RGB24,
    Admitted,
    ChunkEmbeddings,
    ChunkHeader,
    EncodeChunkRequest,
    EncodeChunkResponse,
    EncodeTextsRequest,
    EncodeTextsResponse,
    GetModelRequest,
    GetModelResponse,
    ModelInfo,
    Parked,
)
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_SERVICE = DESCRIPTOR.services_by_name["EncoderService"].full_name
_MAX_KEY_CHARACTERS = 200
_MAX_INGRESS_ID_CHARACTERS = 64
_MAX_WAITED_SECONDS = 3600.0
# A caller that receives none of these for a few seconds takes the encoder for hung.
_HEARTBEAT_SECONDS = 1.0
_MAX_PIECE_BYTES = 2 << 20
_MAX_TEXTS = 256
_MAX_TEXT_CHARACTERS = 2000
# The longest messages are a piece and the texts of EncodeTexts, of 4 bytes a character at most.
MAX_REQUEST_BYTES = max(_MAX_PIECE_BYTES, _MAX_TEXTS * (_MAX_TEXT_CHARACTERS * 4 + 8)) + 1024
_CHANNELS = 3
_LINGER_SECONDS = 1.0
_SILENCE_SECONDS = 0.1
_CANCELLATION_SECONDS = 0.01

# One that holds a piece alone is only the piece.
_Request = EncodeChunkRequest | memoryview


class EncoderServicer(encoder_pb2_grpc.EncoderServiceServicer):
    """`chunks` admits EncodeChunk; its buffers hold `max_frames` frames. `texts` admits EncodeTexts."""

    def __init__(
        self,
        engine: Engine,
        chunks: Admission,
        texts: Admission,
        max_frames: int,
        heartbeat_seconds: float = _HEARTBEAT_SECONDS,
    ) -> None:
        self._engine = engine
        self._model = engine.model
        self._chunks = chunks
        self._texts = texts
        self._max_frames = max_frames
        self._heartbeat_seconds = heartbeat_seconds

    def add_to(self, server: grpc.aio.Server) -> None:
        """Registers the service as the generated function does, but reads the pieces of EncodeChunk without copies."""
        encoder_pb2_grpc.add_EncoderServiceServicer_to_server(self, server)  # type: ignore[no-untyped-call]
        handler = grpc.stream_stream_rpc_method_handler(
            self.EncodeChunk, chunk_upload.parse, EncodeChunkResponse.SerializeToString
        )
        server.add_registered_method_handlers(_SERVICE, {"EncodeChunk": handler})

    async def EncodeChunk(self, requests: AsyncIterator[_Request], context: grpc.aio.ServicerContext) -> None:
        header = await _read_header(requests)
        # Stays bound to the end of the call, so that the line of a failed call has it too.
        structlog.contextvars.bind_contextvars(chunk_key=header.chunk_key[:_MAX_KEY_CHARACTERS])
        self._check_header(header)
        shape = (header.frames, header.height, header.width, _CHANNELS)
        upload = Upload(requests)
        try:
            async with self._chunks.request(
                header.frames, ingress=_ingress(header, context), waited_seconds=_waited_seconds(header)
            ) as request:
                with tracing.span("permit"):
                    while (permit := await request.granted_within(self._heartbeat_seconds)) is None:
                        # The permit may be granted during the write.
                        await _within(self._chunks.pause_seconds, context.write(EncodeChunkResponse(parked=Parked())))
                admitted = Admitted(parked=_duration(permit.parked_seconds))
                with tracing.span("upload"):
                    await permit.announce(context.write(EncodeChunkResponse(admitted=admitted)))
                    frames = await permit.receive(upload, math.prod(shape))
                received = time.perf_counter()
                with tracing.span("compute", frames=header.frames):
                    encoded = await permit.run(self._encode, frames.reshape(shape))
                    tracing.annotate(accelerator_seconds=encoded.compute_seconds)
                elapsed_seconds = time.perf_counter() - received
                permit.computed(encoded.compute_seconds)
        except (InvalidInput, DeadlineExceeded):
            await upload.let_caller_finish()
            raise
        queue_seconds = max(0.0, elapsed_seconds - encoded.compute_seconds)
        call_log.note(frames=header.frames)
        call_log.stages(parked=permit.parked_seconds, queue=queue_seconds, compute=encoded.compute_seconds)
        result = ChunkEmbeddings(
            embeddings=tensors.to_proto(encoded.embeddings),
            queue=_duration(queue_seconds),
            compute=_duration(encoded.compute_seconds),
            model_digest=self._model.digest,
            other_chunks_in_flight=self._chunks.in_flight + self._chunks.parked,
        )
        await context.write(EncodeChunkResponse(result=result))

    async def EncodeTexts(self, request: EncodeTextsRequest, context: grpc.aio.ServicerContext) -> EncodeTextsResponse:
        _check_texts(request)
        self._check_digest(request.model_digest)
        async with self._texts.permit() as permit:
            embeddings = await permit.run(self._engine.encode_texts, list(request.texts))
        return EncodeTextsResponse(embeddings=tensors.to_proto(embeddings), model_digest=self._model.digest)

    async def GetModel(self, request: GetModelRequest, context: grpc.aio.ServicerContext) -> GetModelResponse:
        return GetModelResponse(model=ModelInfo(**asdict(self._model)))

    def _encode(self, frames: NDArray[np.uint8]) -> Encoded:
        # Counted on this thread, so also if the caller has left.
        return metrics.encoded(self._engine.encode(frames))

    def _check_header(self, header: ChunkHeader) -> None:
        size = self._model.image_size
        if not 1 <= header.frames <= self._max_frames:
            raise InvalidInput(f"frames: {header.frames}, not 1 to {self._max_frames}", field="header.frames")
        if (header.height, header.width) != (size, size):
            raise InvalidInput(
                f"height, width: {header.height} × {header.width}, not the {size} × {size} of the model",
                reason=ErrorReason.IMAGE_SIZE_MISMATCH,
                field="header.height",
            )
        if header.pixel_format != PIXEL_FORMAT_RGB24:
            raise InvalidInput("pixel_format: not PIXEL_FORMAT_RGB24", field="header.pixel_format")
        if len(header.chunk_key) > _MAX_KEY_CHARACTERS:
            raise InvalidInput(f"chunk_key: over {_MAX_KEY_CHARACTERS} characters", field="header.chunk_key")
        if len(header.ingress_id) > _MAX_INGRESS_ID_CHARACTERS:
            raise InvalidInput(f"ingress_id: over {_MAX_INGRESS_ID_CHARACTERS} characters", field="header.ingress_id")
        self._check_digest(header.model_digest)

    def _check_digest(self, wanted: str) -> None:
        if wanted and wanted != self._model.digest:
            raise FailedPrecondition(
                f"model: {wanted} is wanted, this encoder serves {self._model.digest}",
                reason=ErrorReason.MODEL_MISMATCH,
            )


def _waited_seconds(header: ChunkHeader) -> float:
    return min(max(0.0, header.waited.ToNanoseconds() / 1e9), _MAX_WAITED_SECONDS)


async def _within(seconds: float, write: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(seconds):
            await write
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"the caller has not read for {seconds:g} s", reason=ErrorReason.CALLER_TOO_SLOW
        ) from error


def _ingress(header: ChunkHeader, context: grpc.aio.ServicerContext) -> str:
    """The ingress's id with its host, so that no host can use the id of another host's ingress."""
    return f"{context.peer().rpartition(':')[0]} {header.ingress_id}"


class Upload:
    """The pieces after the header, in order.

    A wait for one may be cancelled, by a timeout for example, and repeated: the read of gRPC continues. gRPC allows one
    read at a time, and cancelling it loses the rest of the call.
    """

    def __init__(self, requests: AsyncIterator[_Request]) -> None:
        self._requests = requests
        self._reading: asyncio.Future[_Request | None] | None = None

    def __aiter__(self) -> AsyncIterator[memoryview]:
        return self

    async def __anext__(self) -> memoryview:
        request = await self._read()
        if request is None:
            raise StopAsyncIteration
        if isinstance(request, EncodeChunkRequest):
            if request.WhichOneof("part") != "piece":
                raise InvalidInput("piece: only pieces may follow the header", field="piece")
            request = memoryview(request.piece)
        if len(request) > _MAX_PIECE_BYTES:
            raise InvalidInput(f"piece: {len(request)} bytes, over {_MAX_PIECE_BYTES}", field="piece")
        return request

    async def let_caller_finish(self) -> None:
        """Reads for a moment, before the call is refused, until the caller has closed its side or sends nothing.

        grpc.aio reports a status that arrives during a write as INTERNAL. And when a caller leaves, the end of its
        messages arrives here first, and the cancellation right after it.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while True:
                    async with asyncio.timeout(_SILENCE_SECONDS):
                        if await self._read() is None:
                            break
        await asyncio.sleep(_CANCELLATION_SECONDS)

    async def _read(self) -> _Request | None:
        """The next message, None at the end."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(_next(self._requests))
        request = await asyncio.shield(self._reading)
        self._reading = None
        return request


async def _read_header(requests: AsyncIterator[_Request]) -> ChunkHeader:
    first = await _next(requests)
    if not isinstance(first, EncodeChunkRequest) or first.WhichOneof("part") != "header":
        raise InvalidInput("header: the first message must be the header", field="header")
    return first.header


async def _next(requests: AsyncIterator[_Request]) -> _Request | None:
    try:
        return await anext(requests, None)
    except grpc.aio.AbortError:
        # The call was ended here while this read waited.
        return None


def _check_texts(request: EncodeTextsRequest) -> None:
    if not 1 <= len(request.texts) <= _MAX_TEXTS:
        raise InvalidInput(f"texts: {len(request.texts)}, not 1 to {_MAX_TEXTS}", field="texts")
    for index, text in enumerate(request.texts):
        if not 1 <= len(text) <= _MAX_TEXT_CHARACTERS:
            raise InvalidInput(
                f"texts[{index}]: {len(text)} characters, not 1 to {_MAX_TEXT_CHARACTERS}", field=f"texts[{index}]"
            )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
