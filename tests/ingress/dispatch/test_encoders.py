"""Chunks and encoders that do not keep to the rules: real servers that end the call when it suits them worst."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import grpc

from services.ingress.admission.byte_budget import ByteBudget
from services.ingress.admission.deadline import Deadline
from services.ingress.admission.fair_queue import Share
from services.ingress.dispatch.discovery import Static
from services.ingress.dispatch.encoders import Encoders
from services.ingress.dispatch.replicas import Replicas
from services.ingress.sampling.frame_buffer import FrameBuffer
from tests.system import IMAGE_SIZE, Engine, encoder, replica
from videoanalysis.v1.encoder_pb2 import Admitted, EncodeChunkRequest, EncodeChunkResponse
from videoanalysis.v1.encoder_pb2_grpc import EncoderServiceServicer, add_EncoderServiceServicer_to_server

FRAMES = 64
SHARE = Share("a caller", 1)


class Impatient(EncoderServiceServicer):
    """Admits, and ends the call before the frames are there."""

    def __init__(self) -> None:
        self.calls = 0

    async def EncodeChunk(
        self, requests: AsyncIterator[EncodeChunkRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[EncodeChunkResponse]:
        self.calls += 1
        await anext(requests)
        yield EncodeChunkResponse(admitted=Admitted())
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "too slow")


async def test_a_chunk_whose_upload_one_encoder_breaks_off_is_encoded_by_another():
    impatient, engine = Impatient(), Engine()
    async with AsyncExitStack() as stack:
        server = grpc.aio.server()
        add_EncoderServiceServicer_to_server(impatient, server)
        rude = await stack.enter_async_context(replica(server))
        good = await stack.enter_async_context(encoder(engine))
        pool = Replicas("encoder", Static([rude.address, good.address]), attempt_seconds=10, wait_seconds=10)
        encoders = Encoders(await stack.enter_async_context(pool), IMAGE_SIZE)
        budget = ByteBudget(1 << 24)
        frames = await FrameBuffer.allocate(FRAMES * IMAGE_SIZE**2 * 3, budget)
        stack.callback(frames.close)
        while not impatient.calls:
            encoded = await encoders.encode(frames, FRAMES, "chunk", engine.model, Deadline.after(30), SHARE)
            assert encoded.embeddings.shape == (FRAMES, engine.model.embedding_dim)
