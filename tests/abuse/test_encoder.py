"""Callers of an encoder that take a permit and do not use it cost the others little."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from tests.abuse.http2 import connect
from tests.abuse.processes import Service, service
from videoanalysis import channels
from videoanalysis.v1.encoder_pb2 import PIXEL_FORMAT_RGB24, ChunkHeader, EncodeChunkRequest
from videoanalysis.v1.encoder_pb2_grpc import EncoderServiceStub

SIZE, FRAMES = 64, 4
ENCODE = "/videoanalysis.v1.EncoderService/EncodeChunk"
SERVICE = "videoanalysis.v1.EncoderService"


@asynccontextmanager
async def encoder(directory: Path, **settings: object) -> AsyncIterator[Service]:
    fast = {"engine": "synthetic", "synthetic_image_size": SIZE, "synthetic_service_ms": 0}
    async with service("services.encoder", directory, **fast, **settings) as started:
        yield started


def header(ingress: str) -> EncodeChunkRequest:
    return EncodeChunkRequest(
        header=ChunkHeader(frames=FRAMES, height=SIZE, width=SIZE, pixel_format=PIXEL_FORMAT_RGB24, ingress_id=ingress)
    )


async def encode(stub: EncoderServiceStub) -> None:
    """A chunk of an ingress that uploads at once."""
    call = stub.EncodeChunk(timeout=60)
    await call.write(header("honest"))
    async for answer in call:
        if answer.WhichOneof("part") == "admitted":
            await call.write(EncodeChunkRequest(piece=np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8).tobytes()))
            await call.done_writing()
        if answer.WhichOneof("part") == "result":
            return
    raise AssertionError("no result")


async def test_callers_that_never_read_that_they_are_admitted_lose_their_permits(tmp_path):
    async with encoder(tmp_path, piece_seconds=0.5) as started, connect(started.address, window=0) as client:
        for number in range(10):  # two are admitted, the others parked
            await client.call(ENCODE, header(f"silent-{number}").SerializeToString(), end=False)
        await started.metric_reaches(2, "videoanalysis_running", service="encoder")
        async with channels.connect(started.address) as channel:
            await encode(EncoderServiceStub(channel))
        await started.metric_reaches(2, "grpc_server_handled_total", grpc_code="DeadlineExceeded")


async def test_callers_that_upload_slowly_hold_up_no_ingress_that_does_not(tmp_path):
    async with (
        encoder(tmp_path, piece_seconds=0.5) as started,
        connect(started.address) as client,
        asyncio.TaskGroup() as tasks,
    ):
        slow = [await client.call(ENCODE, header("slow").SerializeToString(), end=False) for _ in range(15)]

        async def trickle() -> None:
            piece = EncodeChunkRequest(piece=b"x").SerializeToString()
            while True:
                for call in slow:
                    if not call.ended.is_set():
                        await client.send(call, piece)
                await asyncio.sleep(0.1)

        trickling = tasks.create_task(trickle())
        async with channels.connect(started.address) as channel:
            for _ in range(20):
                await encode(EncoderServiceStub(channel))
        # The first two, before they are known to be slow, and those that were admitted between them.
        ended = await started.metric("grpc_server_handled_total", grpc_service=SERVICE, grpc_code="DeadlineExceeded")
        assert ended < 10
        trickling.cancel()


async def test_uploads_without_a_header_end_within_seconds(tmp_path):
    async with encoder(tmp_path, first_message_seconds=0.5) as started, connect(started.address) as client:
        calls = [await client.call(ENCODE) for _ in range(100)]
        async with asyncio.timeout(20):
            for call in calls:
                await call.ended.wait()
        assert {call.status for call in calls} == {"4"}
