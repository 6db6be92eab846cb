"""One line for every call that has ended, with the same trace and stream in all services."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog

from tests.rendering import render, steady
from tests.system import Engine, system
from videoanalysis import call_log, logs
from videoanalysis.errors import Unavailable
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest, StreamAnalyzeVideoRequest
from videoanalysis.v1.error_reason_pb2 import ErrorReason

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = ("traceparent", f"00-{TRACE_ID}-00f067aa0ba902b7-01")


class Log:
    def __init__(self) -> None:
        self.stream = io.StringIO()

    def lines(self, event: str = "call ended", service: str = "") -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [line for line in found if line["event"] == event and service in line.get("method", "")]


@pytest.fixture
def log() -> Iterator[Log]:
    """What this process logs, as `logs.configure` has it."""
    log = Log()
    before = structlog.get_config()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            logs.bound,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(log.stream),
        cache_logger_on_first_use=False,
    )
    yield log
    structlog.configure(**before)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("clip") / "clip.mp4", steady(10, 3))


def request(clip: Path, **fields: object) -> AnalyzeVideoRequest:
    return AnalyzeVideoRequest(
        video_uri=f"file://{clip}", frames_per_chunk=4, chunk_duration_seconds=1, stream_id="stream-1", **fields
    )


async def test_a_call_has_one_line_and_its_trace_is_in_every_service(clip, log, tmp_path):
    async with system(tmp_path, allowed_file_roots=[clip.parent]) as running:
        await running.stub.AnalyzeVideo(request(clip), timeout=60, metadata=[TRACEPARENT])
    (line,) = log.lines(service="VideoAnalysisService")
    assert line["method"] == "videoanalysis.v1.VideoAnalysisService/AnalyzeVideo"
    assert (line["status"], line["trace_id"], line["stream_id"]) == ("OK", TRACE_ID, "stream-1")
    assert line["caller"] == "127.0.0.1"
    stages = line["stage_seconds"]
    assert {"download_compute", "sample_compute", "encode_compute", "decode_compute"} <= stages.keys()
    assert sum(stages.values()) <= line["seconds"] * 1.01
    encodes, decodes = log.lines(service="EncodeChunk"), log.lines(service="DecodeChunk")
    assert len([one for one in encodes if one["status"] == "OK"]) == len(decodes) == 3
    for one in encodes + decodes:
        assert (one["trace_id"], one["stream_id"]) == (TRACE_ID, "stream-1")
    assert all({"queue", "compute"} <= one["stage_seconds"].keys() for one in decodes)


@pytest.mark.parametrize(
    "traceparent",
    ["", "00-0-1-2", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"ff-{TRACE_ID}-00f067aa0ba902b7-01", "x" * 2000],
)
async def test_a_call_without_a_valid_trace_gets_one_of_its_own(traceparent, clip, log, tmp_path):
    async with system(tmp_path, allowed_file_roots=[clip.parent]) as running:
        await running.stub.AnalyzeVideo(request(clip), timeout=60, metadata=[("traceparent", traceparent)])
    (line,) = log.lines(service="VideoAnalysisService")
    assert len(line["trace_id"]) == 32
    assert line["trace_id"] not in (TRACE_ID, "0" * 32)
    assert {one["trace_id"] for one in log.lines(service="DecodeChunk")} == {line["trace_id"]}


async def test_a_failed_call_has_one_line_with_its_reason_and_stages(clip, log, tmp_path):
    async with system(tmp_path, allowed_file_roots=[clip.parent]) as running:
        for wanted in (request(clip.parent / "missing.mp4"), request(clip, top_k_tags=1000)):
            with pytest.raises(grpc.aio.AioRpcError):
                await running.stub.AnalyzeVideo(wanted, timeout=60)
    missing, invalid = log.lines(service="VideoAnalysisService")
    assert (missing["status"], missing["reason"]) == ("NOT_FOUND", "OBJECT_NOT_FOUND")
    assert "download_compute" in missing["stage_seconds"]
    assert (invalid["status"], invalid["reason"], invalid["field"]) == (
        "INVALID_ARGUMENT",
        "INVALID_INPUT",
        "top_k_tags",
    )


def test_what_led_to_a_failure_is_in_the_line_of_its_call(log):
    failure = Unavailable("storage fails", reason=ErrorReason.STORAGE_UNAVAILABLE)
    failure.details["request_id"] = "request-1"
    failure.__cause__ = OSError("connection reset")
    call_log.ended("/videoanalysis.v1.X/Y", "UNAVAILABLE", 0.5, failure)
    (line,) = log.lines()
    assert (line["level"], line["status"], line["reason"]) == ("warning", "UNAVAILABLE", "STORAGE_UNAVAILABLE")
    assert line["causes"] == ["OSError: connection reset"]
    assert line["details"] == {"request_id": "request-1"}


async def test_a_call_that_its_caller_cancels_and_one_that_is_a_bug_have_one_line_each(clip, log, tmp_path):
    engine = Engine()
    engine.release.clear()
    async with system(tmp_path, [engine], allowed_file_roots=[clip.parent]) as running:
        call = running.stub.StreamAnalyzeVideo(StreamAnalyzeVideoRequest(analysis=request(clip)), timeout=60)
        await call.read()
        call.cancel()
        running.frame_budget.limit = 1  # a state that the settings rule out
        with pytest.raises(grpc.aio.AioRpcError):
            await running.stub.AnalyzeVideo(request(clip), timeout=60)
        engine.release.set()
    lines = log.lines(service="VideoAnalysisService")
    assert sorted(line["status"] for line in lines) == ["CANCELLED", "INTERNAL"]
    assert len(log.lines("bug")) == 1


async def test_hostile_ids_labels_and_uris_stay_in_their_lines(clip, log, tmp_path):
    hostile = '\n{"event": "call ended"}\x1b[31m\u2028'
    async with system(tmp_path, allowed_file_roots=[clip.parent]) as running:
        for wanted in (
            request(clip, text_bank=hostile),
            request(clip, labels=[hostile]),
            AnalyzeVideoRequest(video_uri=f"file://{clip}", stream_id=hostile),
            AnalyzeVideoRequest(video_uri=f"https://host/{hostile * 50}"),
            AnalyzeVideoRequest(video_uri=f"s3://bucket/{hostile}"),
            request(clip, output_uri=f"s3://{hostile}"),
        ):
            with pytest.raises(grpc.aio.AioRpcError):
                await running.stub.AnalyzeVideo(wanted, timeout=60)
    assert len(log.lines(service="VideoAnalysisService")) == 6
    for line in log.stream.getvalue().splitlines():
        assert line.isprintable()
        assert len(line) < 16 << 10
