"""A stack with TLS and tokens: mutual between its services, and rotated while it works."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from hashlib import sha256

import grpc
import pytest
import pytest_asyncio

from tests.ingress.waiting import until
from tests.stack.test_stack import SETTINGS
from videoanalysis.channels import connect
from videoanalysis.client import AsyncClient, Client
from videoanalysis.errors import Unauthenticated, Unavailable
from videoanalysis.stack import source_tree
from videoanalysis.stack.stack import Stack
from videoanalysis.tls import TlsFiles, channel_credentials
from videoanalysis.v1.encoder_pb2 import GetModelRequest
from videoanalysis.v1.encoder_pb2_grpc import EncoderServiceStub

TOKEN = "a token of this test"
SWEEP = "loadtest sweep ADDRESS --concurrency 1 --requests 2 --no-report --slo errors=0"
LOCUST = "locust -f loadtest/locustfile.py --headless -t 2s --stop-timeout 30 -H ADDRESS --slo errors=0 Unary"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"tester sha256:{sha256(TOKEN.encode()).hexdigest()}\n")
    settings = {**SETTINGS, "ingress": {**SETTINGS["ingress"], "tokens_file": tokens}}
    async with Stack(engine="synthetic", encoders=2, settings=settings, tls=True) as stack:
        yield stack


def credentials(stack: Stack) -> grpc.ChannelCredentials:
    return channel_credentials(TlsFiles(ca=stack.authority.ca))


async def analyze(stack: Stack) -> None:
    async with AsyncClient(
        stack.address, credentials=credentials(stack), token=TOKEN, retry_timeout_seconds=0
    ) as client:
        analysis = await client.analyze("sample://clip", timeout_seconds=60)
    assert analysis.message.chunks


async def test_both_clients_call_with_credentials_and_not_without(stack):
    await analyze(stack)

    def blocking() -> None:
        with Client(stack.address, credentials=credentials(stack), token=lambda: TOKEN) as client:
            client.analyze("sample://clip", timeout_seconds=60)

    await asyncio.to_thread(blocking)
    async with AsyncClient(stack.address, token=TOKEN, retry_timeout_seconds=0) as plaintext:
        with pytest.raises(Unavailable):
            await plaintext.analyze("sample://clip", timeout_seconds=60)
    async with AsyncClient(stack.address, credentials=credentials(stack)) as without_token:
        with pytest.raises(Unauthenticated):
            await without_token.analyze("sample://clip", timeout_seconds=60)


async def test_the_command_line_calls_with_ca_and_token(stack, tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")

    async def analyzed(*options: str) -> tuple[int | None, str, str]:
        program = "from videoanalysis.cli import main; main()"
        common = ["analyze", "sample://clip", "-o", "json", "--address", stack.address, "--ca", str(stack.authority.ca)]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, *common, *options, stdout=-1, stderr=-1
        )
        stdout, stderr = await process.communicate()
        return process.returncode, stdout.decode(), stderr.decode()

    code, answer, errors = await analyzed("--token-file", str(file))
    assert (code, bool(json.loads(answer)["chunks"])) == (0, True), errors
    code, _, errors = await analyzed()
    assert code != 0
    assert "authorization" in errors


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


@pytest.mark.parametrize("tool", [SWEEP, LOCUST], ids=["sweep", "locust"])
async def test_load_tests_call_with_credentials_and_a_token(stack, tmp_path, tool):
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    access = ["--ca", str(stack.authority.ca), "--token-file", str(token_file)]
    output = ["--out", str(tmp_path / "run")] if tool == SWEEP else []
    arguments = tool.replace("ADDRESS", stack.address).split()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, *access, *output, cwd=source_tree.ROOT, stdout=PIPE, stderr=STDOUT
    )
    printed, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, printed.decode()
