"""Requests that are malformed or too long are answered clearly, counted, and cost no memory."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest

from services.ingress.__main__ import MAX_REQUEST_BYTES
from services.ingress.job import read_request
from services.ingress.resume.token import MAX_TOKEN_BYTES
from tests.abuse.processes import Service, service
from videoanalysis import channels, limits
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest, StreamAnalyzeVideoRequest

MIB = 1 << 20
NOWHERE = ["127.0.0.1:1"]
SERVICES = {
    "services.ingress": {"encoders": NOWHERE, "decoders": NOWHERE, "max_videos": 1},
    "services.encoder": {"engine": "synthetic", "synthetic_image_size": 16},
    "services.decoder": {},
}
METHODS = {
    "services.ingress": ("VideoAnalysisService", "AnalyzeVideo", "StreamAnalyzeVideo"),
    "services.encoder": ("EncoderService", "EncodeTexts", "EncodeChunk"),
    "services.decoder": ("DecoderService", "DecodeChunk", "RankTexts"),
}


@asynccontextmanager
async def started(module: str, directory: Path, **settings: object) -> AsyncIterator[tuple[Service, grpc.aio.Channel]]:
    async with (
        service(module, directory, **SERVICES[module], **settings) as process,
        channels.connect(process.address) as channel,
    ):
        yield process, channel


async def status(channel: grpc.aio.Channel, path: str, request: bytes, **options: object) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.stream_unary(path)(iter([request]), timeout=30, **options)
    return caught.value


@pytest.mark.parametrize("module", SERVICES)
async def test_a_malformed_message_is_invalid_counted_and_logged_in_a_line(tmp_path, module):
    name, *methods = METHODS[module]
    async with started(module, tmp_path) as (process, channel):
        for method in methods:
            # A length beyond the end, a group that never ends, text that is no UTF-8.
            for request in (b"\x0a\xff\x01", b"\x0b", b"\xff" * 100):
                refused = await status(channel, f"/videoanalysis.v1.{name}/{method}", request)
                assert refused.code() == grpc.StatusCode.INVALID_ARGUMENT
                assert "protobuf" in refused.details()
            counted = {"grpc_method": method, "grpc_code": "InvalidArgument"}
            assert await process.metric("grpc_server_handled_total", **counted) == 3
    lines = [line for line in process.log() if line["event"] == "call ended"]
    assert [line["status"] for line in lines] == ["INVALID_ARGUMENT"] * 6
    # The first line has the settings, and no line is anything but JSON.
    written = [json.loads(line) for line in process.log_file.read_text().splitlines()]
    assert written[0]["event"] == "starting"
    assert written[0]["settings"]["host"] == "127.0.0.1"
    assert "Traceback" not in process.log_file.read_text()


async def test_requests_too_long_for_the_ingress_cost_no_memory(tmp_path):
    async with started("services.ingress", tmp_path) as (process, _), AsyncExitStack() as stack:
        path = "/videoanalysis.v1.VideoAnalysisService/AnalyzeVideo"
        before = process.peak_memory_bytes()
        callers = [await stack.enter_async_context(channels.connect(process.address)) for _ in range(4)]
        request = bytes(4 * MIB - 1)
        for _ in range(2):
            refused = await asyncio.gather(*(status(caller, path, request) for caller in callers for _ in range(20)))
            assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        # 64 MiB of zeros in 64 KB.
        bomb = await status(callers[0], path, bytes(64 * MIB), compression=grpc.Compression.Gzip)
        assert bomb.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert process.peak_memory_bytes() - before < 64 * MIB


def test_the_longest_valid_request_is_accepted():
    longest = chr(0x10FFFF)  # 4 bytes
    labels = [f"{number:03}".ljust(limits.MAX_TEXT_CHARACTERS, longest) for number in range(limits.MAX_LABELS)]
    analysis = AnalyzeVideoRequest(
        stream_id="x" * 200,
        labels=labels,
        text_bank="x" * 100,
        video_uri="s3://" + "b" * 63 + "/" + "k" * 1024,
        output_uri="s3://" + "b" * 63 + "/" + "k" * 1024,
    )
    read_request(analysis)
    request = StreamAnalyzeVideoRequest(analysis=analysis, resume_token=bytes(MAX_TOKEN_BYTES))
    assert request.ByteSize() < MAX_REQUEST_BYTES
