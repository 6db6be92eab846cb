"""The services as processes send their spans to a collector, as the OTEL_ variables say."""

import asyncio
import subprocess
import sys

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from videoanalysis.client import AsyncClient
from videoanalysis.stack.stack import Stack

SOON = 30
SERVICES = {"videoanalysis-ingress", "videoanalysis-encoder", "videoanalysis-decoder"}


class Collector(TraceServiceServicer):
    """Services by the trace ids of the spans that they sent."""

    def __init__(self) -> None:
        self.services: dict[str, set[str]] = {}
        self.changed = asyncio.Event()

    async def Export(self, request, context):
        for sent in request.resource_spans:
            attributes = {item.key: item.value.string_value for item in sent.resource.attributes}
            for span in (span for scope in sent.scope_spans for span in scope.spans):
                self.services.setdefault(span.trace_id.hex(), set()).add(attributes["service.name"])
        self.changed.set()
        return ExportTraceServiceResponse()


async def test_one_trace_has_spans_of_all_three_services(monkeypatch):
    collector, server = Collector(), grpc.aio.server()
    add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    try:
        async with Stack(engine="synthetic") as stack, AsyncClient(stack.address) as client:
            trace_id = (await client.analyze("sample://clip")).message.trace_id
            assert len(trace_id) == 32
            async with asyncio.timeout(SOON):
                while collector.services.get(trace_id) != SERVICES:
                    collector.changed.clear()
                    await collector.changed.wait()
    finally:
        await server.stop(None)


@pytest.mark.parametrize("module", ["opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"])
def test_an_endpoint_without_the_sdk_is_refused_with_what_to_install(module):
    program = (
        "import os, sys\n"
        f"sys.modules[{module!r}] = None\n"
        "os.environ['OTEL_EXPORTER_OTLP_ENDPOINT'] = 'http://127.0.0.1:4317'\n"
        "from videoanalysis import tracing\n"
        "tracing.configure('ingress')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "pip install 'videoanalysis[tracing]'" in ended.stderr


@pytest.mark.parametrize(
    "variables",
    [{}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}],
    ids=["no endpoint", "disabled", "no exporter"],
)
def test_without_an_exporter_the_sdk_is_not_loaded(variables):
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"} if variables else {}
    program = (
        f"import os, sys\nos.environ.update({ {**endpoint, **variables}!r})\n"
        "from videoanalysis import tracing\n"
        "tracing.configure('ingress')\n"
        "sys.exit('opentelemetry.sdk.trace' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
