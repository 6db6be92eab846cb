"""The trace of an analysis: its spans, and that they agree with Timing."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from services.encoder.synthetic import SyntheticEngine
from tests.rendering import calm_picture, render, steady
from tests.system import EMBEDDING_DIM, IMAGE_SIZE, system
from videoanalysis.client import AsyncClient
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest, AnalyzeVideoResponse, Timing

SECONDS, CHUNKS = 6, 3
SOON = 30
TRACE_ID, CALLER_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
INGRESS = "videoanalysis.v1.VideoAnalysisService"
ENCODE, DECODE = "videoanalysis.v1.EncoderService/EncodeChunk", "videoanalysis.v1.DecoderService/DecodeChunk"


@pytest.fixture(scope="module")
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # There is one of it in a process, for good: it records nothing any more after this module.
    trace.set_tracer_provider(provider)
    yield exporter
    provider.shutdown()


@pytest.fixture
def spans(exporter) -> InMemorySpanExporter:
    exporter.clear()
    return exporter


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return render(tmp_path_factory.mktemp("clips") / "clip.mp4", steady(10, SECONDS), draw=calm_picture)


async def analyze(directory: Path, clip: Path, **options: object) -> AnalyzeVideoResponse:
    engine = SyntheticEngine(image_size=IMAGE_SIZE, embedding_dim=EMBEDDING_DIM, service_ms=30)
    async with (
        system(directory, [engine], allowed_file_roots=[clip.parent]) as running,
        AsyncClient(running.address) as client,
    ):
        traceparent = f"00-{TRACE_ID}-{CALLER_ID}-01"
        answer = await client.analyze(
            f"file://{clip}", chunk_duration_seconds=SECONDS / CHUNKS, traceparent=traceparent, **options
        )
        return answer.message


def named(spans: Sequence[ReadableSpan], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


async def test_one_trace_leads_from_the_caller_to_every_encoder_and_decoder(clip, spans, tmp_path):
    answer = await analyze(tmp_path, clip, stream_id="holiday")
    found = [span for span in spans.get_finished_spans() if f"{span.context.trace_id:032x}" == TRACE_ID]
    assert answer.trace_id == TRACE_ID
    (call,) = named(found, f"{INGRESS}/StreamAnalyzeVideo")
    assert (call.kind, f"{call.parent.span_id:016x}") == (SpanKind.SERVER, CALLER_ID)
    assert dict(call.attributes) == {
        "rpc.system": "grpc",
        "rpc.service": INGRESS,
        "rpc.method": "StreamAnalyzeVideo",
        "rpc.grpc.status_code": 0,
        "videoanalysis.stream_id": "holiday",
    }
    chunks = [span for span in named(found, "chunk") if span.parent.span_id == call.context.span_id]
    ids = {span.context.span_id for span in chunks}
    encodes, decodes = named(found, ENCODE), named(found, DECODE)
    assert len(encodes) == len(decodes) == CHUNKS
    assert {span.parent.span_id for span in encodes} == {span.parent.span_id for span in decodes} <= ids
    within = Counter(span.name for span in found if span.parent.span_id in {s.context.span_id for s in encodes})
    assert within == {"permit": CHUNKS, "upload": CHUNKS, "compute": CHUNKS}
    by_id = {span.context.span_id: span for span in found}
    for span in found:
        if (parent := by_id.get(span.parent.span_id)) is not None:
            # The clocks of the parts are of one process, but the ends of a call are seen at either side.
            assert parent.start_time - 50e6 <= span.start_time <= span.end_time <= parent.end_time + 50e6


async def test_the_parts_of_the_chunks_add_up_to_timing(clip, spans, tmp_path):
    answer = await analyze(tmp_path, clip)
    parts: dict[str, float] = {}
    attributed_until = 0
    by_parent: dict[int, list[ReadableSpan]] = {}
    for span in spans.get_finished_spans():
        if span.parent is not None:
            by_parent.setdefault(span.parent.span_id, []).append(span)
    chunks = sorted(named(spans.get_finished_spans(), "chunk"), key=lambda span: span.end_time)
    for chunk in chunks:
        for span in sorted(by_parent[chunk.context.span_id], key=lambda span: span.start_time):
            if span.kind is SpanKind.INTERNAL:
                seconds = max(0, span.end_time - max(span.start_time, attributed_until)) / 1e9
                parts[span.name] = parts.get(span.name, 0.0) + seconds
        attributed_until = chunk.end_time
    assert parts == pytest.approx(of_timing(answer.timing), rel=0.02, abs=1e-4)


def of_timing(timing: Timing) -> dict[str, float]:
    """Seconds by name of the span, of the parts that took any."""
    found = {}
    for stage in ("download", "sample", "encode", "decode"):
        of_stage = getattr(timing, stage)
        found |= {f"{stage} queue": of_stage.queue_seconds, stage: of_stage.compute_seconds}
    return {name: seconds for name, seconds in found.items() if seconds}


async def test_a_failed_call_has_its_status_and_no_span_is_left_open(clip, spans, tmp_path):
    async with system(tmp_path, [], with_bank=False) as running:
        with pytest.raises(grpc.aio.AioRpcError):
            await running.stub.AnalyzeVideo(
                AnalyzeVideoRequest(video_uri=f"file://{tmp_path / 'clip.mp4'}"), timeout=SOON
            )
        with pytest.raises(grpc.aio.AioRpcError):
            await running.stub.AnalyzeVideo(AnalyzeVideoRequest(video_uri="sample://clip"), timeout=SOON)
    not_found, unavailable = named(spans.get_finished_spans(), f"{INGRESS}/AnalyzeVideo")
    assert not_found.attributes["rpc.grpc.status_code"] == grpc.StatusCode.NOT_FOUND.value[0]
    # The caller's fault is no error of the server.
    assert not_found.status.status_code is StatusCode.UNSET
    assert unavailable.attributes["rpc.grpc.status_code"] == grpc.StatusCode.UNAVAILABLE.value[0]
    assert unavailable.status.status_code is StatusCode.ERROR
    assert all(span.end_time for span in named(spans.get_finished_spans(), "chunk"))
    assert len(named(spans.get_finished_spans(), "chunk")) == 2


async def test_a_call_joins_the_current_span_of_its_caller(clip, spans, tmp_path):
    async with system(tmp_path) as running, AsyncClient(running.address) as client:
        with trace.get_tracer("caller").start_as_current_span("holiday") as caller:
            answer = await client.analyze("sample://clip")
    assert answer.message.trace_id == trace.format_trace_id(caller.get_span_context().trace_id)
    (call,) = named(spans.get_finished_spans(), f"{INGRESS}/StreamAnalyzeVideo")
    assert call.parent.span_id == caller.get_span_context().span_id
