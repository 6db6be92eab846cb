"""What an operator sees of the three services as processes: series, health, and the numbers that they are scaled by."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.rendering import calm_picture, render, steady
from tests.scraping import depths, fetch, free_port, samples, value
from videoanalysis.channels import connect
from videoanalysis.stack.service_environment import Kind
from videoanalysis.stack.stack import Stack
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest
from videoanalysis.v1.analysis_pb2_grpc import VideoAnalysisServiceStub

pytestmark = pytest.mark.asyncio(loop_scope="module")

KINDS: list[Kind] = ["ingress", "encoder", "decoder"]
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
SECONDS = 3


@dataclass
class Operated:
    stack: Stack
    metrics: dict[Kind, int]
    health: dict[Kind, int]
    scaling: int
    at_first: dict[Kind, str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operated() -> AsyncIterator[Operated]:
    metrics, health, scaling = {kind: free_port() for kind in KINDS}, {kind: free_port() for kind in KINDS}, free_port()
    settings: dict[Kind, dict[str, object]] = {
        kind: {"metrics_port": metrics[kind], "health_port": health[kind]} for kind in KINDS
    }
    settings["ingress"] |= {"scaling_port": scaling, "grace_seconds": 30, "image_size": 32}
    settings["encoder"] |= {"synthetic_image_size": 32, "synthetic_embedding_dim": 64, "synthetic_service_ms": 300}
    async with Stack(engine="synthetic", settings=settings) as stack:
        at_first = {kind: fetch(metrics[kind], "/metrics") for kind in KINDS}
        yield Operated(stack, metrics, health, scaling, at_first)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("clip") / "clip.mp4", steady(8, SECONDS), draw=calm_picture)


async def test_every_series_is_there_before_the_first_request(operated):
    ingress, encoder, decoder = (operated.at_first[kind] for kind in KINDS)
    for stage, phase in itertools.product(["download", "sample", "encode", "decode"], ["queue", "compute"]):
        assert value(ingress, "videoanalysis_stage_seconds_total", stage=stage, phase=phase) == 0
    for service, outcome in itertools.product(
        ["encoder", "decoder"], ["succeeded", "refused", "unavailable", "failed"]
    ):
        assert value(ingress, "videoanalysis_attempts_total", service=service, outcome=outcome) == 0
    for service in KINDS:
        assert value(ingress, "videoanalysis_queue_depth", service=service) == 0
    for reason in ("OVERLOADED", "SCRATCH_FULL"):
        labels = {"grpc_service": "videoanalysis.v1.VideoAnalysisService", "reason": reason}
        assert value(ingress, "videoanalysis_refused_total", **labels) == 0
    for name in ("video_seconds", "bytes_read", "frames_decoded"):
        assert value(ingress, f"videoanalysis_{name}_total") == 0
    for name in ("accelerator_seconds", "frames_encoded"):
        assert value(encoder, f"videoanalysis_{name}_total") == 0
    labels = {"grpc_service": "videoanalysis.v1.EncoderService", "reason": "ENCODER_BUSY"}
    assert value(encoder, "videoanalysis_refused_total", **labels) == 0
    for kind, text, slots in (("ingress", ingress, 4), ("encoder", encoder, 2), ("decoder", decoder, 1)):
        assert value(text, "videoanalysis_running", service=kind) == 0
        assert value(text, "videoanalysis_slots", service=kind) == slots
    for kind, text in (("ingress", ingress), ("encoder", encoder)):
        assert value(text, "videoanalysis_waiting", service=kind) == 0


async def test_models_and_banks_are_identified_by_their_digests(operated):
    (model,) = (
        dict(labels) for name, labels in samples(operated.at_first["encoder"]) if name == "videoanalysis_model_info"
    )
    assert model["digest"] == operated.stack.model.digest
    assert (model["engine"], model["image_size"]) == ("synthetic", "32")
    text = fetch(operated.metrics["decoder"], "/metrics")
    (bank,) = (dict(labels) for name, labels in samples(text) if name == "videoanalysis_text_bank_info")
    assert (bank["name"], bank["model_digest"]) == ("default", model["digest"])


async def test_health_has_a_port_of_its_own(operated):
    for kind in KINDS:
        async with connect(f"127.0.0.1:{operated.health[kind]}") as channel:
            assert await health(channel, "readiness") == SERVING


async def test_an_analysed_video_is_accounted_for(operated, clip):
    uri = await operated.stack.upload(clip)
    async with connect(operated.stack.address) as channel:
        request = AnalyzeVideoRequest(video_uri=uri, chunk_duration_seconds=1, frames_per_chunk=2)
        answer = await VideoAnalysisServiceStub(channel).AnalyzeVideo(request, timeout=60)
    ingress, encoder, decoder = (fetch(operated.metrics[kind], "/metrics") for kind in KINDS)
    assert value(ingress, "videoanalysis_video_seconds_total") == pytest.approx(SECONDS)
    assert value(ingress, "videoanalysis_bytes_read_total") == clip.stat().st_size
    assert value(ingress, "videoanalysis_frames_decoded_total") == answer.usage.frames_decoded > 0
    spent = sum(count for (name, _), count in samples(ingress).items() if name == "videoanalysis_stage_seconds_total")
    assert spent == pytest.approx(answer.timing.total_seconds - answer.timing.unattributed_seconds)
    assert value(ingress, "videoanalysis_attempts_total", service="encoder", outcome="failed") == 0
    assert value(encoder, "videoanalysis_frames_encoded_total") == 2 * SECONDS
    accelerator_seconds = value(encoder, "videoanalysis_accelerator_seconds_total")
    assert accelerator_seconds == pytest.approx(answer.usage.accelerator_seconds)
    handled = {"grpc_type": "unary", "grpc_method": "DecodeChunk", "grpc_code": "OK"}
    of_decoder = {"grpc_service": "videoanalysis.v1.DecoderService", **handled}
    assert value(decoder, "grpc_server_handled_total", **of_decoder) == SECONDS
    assert depths(operated.scaling) == (0, 0, 0)


async def test_a_draining_ingress_wants_no_other_ingress_and_keeps_its_encoders(operated, clip):
    (ingress,) = operated.stack.services["ingress"]
    uri = await operated.stack.upload(clip)
    async with connect(operated.stack.address) as channel, connect(f"127.0.0.1:{operated.health['ingress']}") as probe:
        request = AnalyzeVideoRequest(video_uri=uri, chunk_duration_seconds=1, frames_per_chunk=64)
        call = VideoAnalysisServiceStub(channel).AnalyzeVideo(request, timeout=60)
        await until_depths(operated.scaling, (1, SECONDS, 0))
        ingress.terminate()
        await until_depths(operated.scaling, (0, SECONDS, 0))
        assert await health(probe, "liveness") == SERVING
        assert await health(probe, "readiness") == NOT_SERVING
        assert len((await call).chunks) == SECONDS
    assert await ingress.wait() == 0


async def health(channel: grpc.aio.Channel, name: str) -> int:
    request = health_pb2.HealthCheckRequest(service=name)
    return (await health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)).status


async def until_depths(port: int, expected: tuple[int, int, int]) -> None:
    read: tuple[float, ...] = ()
    for _ in range(500):
        if (read := await asyncio.to_thread(depths, port)) == expected:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{read}, not {expected}")
