"""One encoder of two whose answers are broken: no video fails and the encoder is avoided, by an ingress process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import nan
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from services.decoder.text_bank_location import Directory
from services.decoder.text_bank_store import TextBankStore
from services.encoder.admission import Admission
from services.encoder.servicer import EncoderServicer
from tests.abuse.processes import service
from tests.system import IMAGE_SIZE, TEXTS, Engine, decoder, encoder, replica
from videoanalysis import tensors
from videoanalysis.channels import connect
from videoanalysis.client import AsyncClient
from videoanalysis.text_bank import builder as bank_builder
from videoanalysis.v1.encoder_pb2_grpc import add_EncoderServiceServicer_to_server
from videoanalysis.v1.tensor_pb2 import Tensor

VIDEOS, LATER_VIDEOS = 6, 10
Spoil = Callable[[Tensor], None]


class SickEncoder(EncoderServicer):
    """Spoils the embeddings of every chunk."""

    spoil: Spoil
    spoilt = 0

    async def EncodeChunk(self, requests: Any, context: Any) -> None:
        await super().EncodeChunk(requests, SpoilingContext(context, self))


class SpoilingContext:
    """The context of a call, whose result is spoilt before it is written."""

    def __init__(self, context: Any, servicer: SickEncoder) -> None:
        self._context = context
        self._servicer = servicer

    async def write(self, response: Any) -> None:
        if response.HasField("result"):
            self._servicer.spoilt += 1
            self._servicer.spoil(response.result.embeddings)
        await self._context.write(response)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


@asynccontextmanager
async def sick_encoder(spoil: Spoil) -> AsyncIterator[tuple[str, SickEncoder]]:
    engine = Engine()
    buffers = [engine.allocate(64 * IMAGE_SIZE**2 * 3) for _ in range(2)]
    async with Admission(buffers, max_parked=32) as chunks, Admission([engine.allocate(0)], max_parked=8) as texts:
        servicer = SickEncoder(engine, chunks, texts, 64)
        servicer.spoil = spoil
        server = grpc.aio.server()
        add_EncoderServiceServicer_to_server(servicer, server)
        async with replica(server) as started:
            yield started.address, servicer


def with_rows(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    def spoil(embeddings: Tensor) -> None:
        rows = change(tensors.from_proto(embeddings).copy())
        embeddings.CopyFrom(tensors.to_proto(np.ascontiguousarray(rows)))

    return spoil


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def truncate(embeddings: Tensor) -> None:
    embeddings.data = embeddings.data[:-3]


SICKNESSES: dict[str, Spoil] = {
    "NaN": with_rows(lambda rows: np.where(np.arange(len(rows))[:, None] == 0, np.float32(nan), rows)),
    "length": with_rows(lambda rows: rows * np.float32(3)),
    "dimensions": with_rows(lambda rows: unit(rows[:, :10])),
    "truncated": truncate,
}


@pytest.mark.parametrize("sickness", SICKNESSES)
async def test_no_video_fails_and_the_failing_replica_is_avoided(sickness: str, tmp_path: Path) -> None:
    async with (
        encoder(Engine()) as healthy,
        sick_encoder(SICKNESSES[sickness]) as (sick_address, sick),
        decoder(await text_banks(healthy.address, tmp_path)) as only,
        service(
            "services.ingress",
            tmp_path,
            encoders=[sick_address, healthy.address],
            decoders=[only.address],
            image_size=IMAGE_SIZE,
            max_videos=VIDEOS,
        ) as ingress,
        AsyncClient(ingress.address, retry_timeout_seconds=0) as client,
    ):
        # At the same time, so that chunks go to both encoders.
        tags = {tuple(found) for found in await asyncio.gather(*(tags_of(client) for _ in range(VIDEOS)))}
        spoilt_at_first = sick.spoilt
        tags |= {tuple(await tags_of(client)) for _ in range(LATER_VIDEOS)}
        failed = await ingress.metric("videoanalysis_attempts_total", service="encoder", outcome="failed")
        succeeded = await ingress.metric("videoanalysis_attempts_total", service="encoder", outcome="succeeded")
    assert len(tags) == 1
    assert failed == sick.spoilt > 0
    assert succeeded >= VIDEOS + LATER_VIDEOS
    # One that was not avoided would be offered about half of them.
    assert sick.spoilt - spoilt_at_first <= LATER_VIDEOS // 3


async def text_banks(encoder_address: str, directory: Path) -> TextBankStore:
    async with connect(encoder_address) as channel:
        bank = await bank_builder.build(TEXTS, name="default", encoder=channel)
    (directory / "default.safetensors").write_bytes(bank.to_bytes())
    store = TextBankStore(Directory(directory), 1 << 28)
    await store.refresh()
    return store


async def tags_of(client: AsyncClient) -> list[tuple[str, float]]:
    analysis = await client.analyze("sample://clip", labels=["a person", "a landscape"], timeout_seconds=60)
    return [(tag.text, tag.score) for tag in analysis.tags]
