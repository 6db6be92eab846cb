"""The service config for gRPC's own retries, as callers in any language load it, with gRPC's client in Python."""

import asyncio
import time
from pathlib import Path

import grpc
import pytest

from videoanalysis.calls import CallInterceptor
from videoanalysis.errors import Overloaded, ServiceError, Unavailable
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest, AnalyzeVideoResponse
from videoanalysis.v1.analysis_pb2_grpc import (
    VideoAnalysisServiceServicer,
    VideoAnalysisServiceStub,
    add_VideoAnalysisServiceServicer_to_server,
)

SERVICE_CONFIG = (Path(__file__).parents[1] / "protos" / "service_config.json").read_text()


class Service(VideoAnalysisServiceServicer):
    """Fails with each of `failures`, then answers."""

    def __init__(self, *failures: ServiceError) -> None:
        self.failures = list(failures)

    async def AnalyzeVideo(self, request, context):
        if self.failures:
            raise self.failures.pop(0)
        return AnalyzeVideoResponse(stream_id="done")


async def analyze(service: Service) -> AnalyzeVideoResponse:
    server = grpc.aio.server(interceptors=[CallInterceptor()])
    add_VideoAnalysisServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.service_config", SERVICE_CONFIG)]
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            return await VideoAnalysisServiceStub(channel).AnalyzeVideo(AnalyzeVideoRequest(), timeout=60)
    finally:
        await server.stop(None)


async def test_a_service_that_is_unavailable_is_called_again():
    assert (await analyze(Service(Unavailable("draining")))).stream_id == "done"


async def test_a_refusal_for_overload_is_repeated_after_the_time_that_it_names():
    began = time.monotonic()
    # Longer than the first backoff of the config.
    assert (await analyze(Service(Overloaded("full", retry_after_seconds=1.2)))).stream_id == "done"
    assert time.monotonic() - began >= 1.2


async def test_any_other_failure_is_final():
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(analyze(Service(ServiceError("a bug"))), 30)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
