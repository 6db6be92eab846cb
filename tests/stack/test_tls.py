"""A stack with TLS: mutual between its services, and rotated while it works."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from tests.ingress.waiting import until
from tests.stack.test_stack import SETTINGS
from videoanalysis.channels import connect
from videoanalysis.client import AsyncClient, Client
from videoanalysis.errors import Unavailable
from videoanalysis.stack.stack import Stack
from videoanalysis.tls import TlsFiles, channel_credentials
from videoanalysis.v1.encoder_pb2 import GetModelRequest
from videoanalysis.v1.encoder_pb2_grpc import EncoderServiceStub

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack() -> AsyncIterator[Stack]:
    async with Stack(engine="synthetic", encoders=2, settings=SETTINGS, tls=True) as stack:
        yield stack


def credentials(stack: Stack) -> grpc.ChannelCredentials:
    return channel_credentials(TlsFiles(ca=stack.authority.ca))


async def analyze(stack: Stack) -> None:
    async with AsyncClient(stack.address, credentials=credentials(stack), attempts=1) as client:
        analysis = await client.analyze("sample://clip", timeout_seconds=60)
    assert analysis.message.chunks


async def test_both_clients_call_with_credentials_and_not_without(stack):
    await analyze(stack)

    def blocking() -> None:
        with Client(stack.address, credentials=credentials(stack)) as client:
            client.analyze("sample://clip", timeout_seconds=60)

    await asyncio.to_thread(blocking)
    async with AsyncClient(stack.address, attempts=1) as plaintext:
        with pytest.raises(Unavailable):
            await plaintext.analyze("sample://clip", timeout_seconds=60)


async def test_an_encoder_refuses_a_caller_without_a_certificate(stack):
    encoder = stack.services["encoder"][0].address
    async with connect(encoder, credentials=channel_credentials(stack.tls)) as channel:
        assert (await EncoderServiceStub(channel).GetModel(GetModelRequest(), timeout=20)).model.digest
    async with connect(encoder, credentials=credentials(stack)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await EncoderServiceStub(channel).GetModel(GetModelRequest(), timeout=20)
        assert refusal.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_every_certificate_is_rotated_while_videos_are_analysed(stack):
    finished = asyncio.Event()
    analysed = 0

    async def load() -> None:
        nonlocal analysed
        while not finished.is_set():
            await analyze(stack)
            analysed += 1

    async def until_analysed(more: int) -> None:
        wanted = analysed + more
        await until(lambda: analysed >= wanted, seconds=60)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(load())
        await until_analysed(2)
        for name in ("encoder", "decoder", "ingress"):
            stack.authority.issue(name, ["localhost", "127.0.0.1"])
        stack.authority.issue("ingress-client")
        # The ingress looks for new certificates every second.
        log = stack.services["ingress"][0]
        await until(lambda: "changed file loaded" in log.report())
        await until_analysed(4)
        finished.set()
