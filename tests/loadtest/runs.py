"""Runs for tests, whose figures can be computed by hand."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from loadtest.sweep import run
from loadtest.sweep.levels import Level
from loadtest.sweep.mix import Video
from loadtest.sweep.record import Request, Sample
from loadtest.sweep.run import Run
from loadtest.sweep.slo import parse_objective
from loadtest.sweep.summary import Sent
from loadtest.sweep.sweep import Measured

CLIP = Video("clip", "s3://b/clip.mp4", 1, 1, 8.0)


def answered(level: str, number: int, start: float, latency: float, **fields: object) -> Request:
    """One answer, after `latency` ms, of which the encoder computed 100 ms."""
    defaults: dict[str, object] = {
        "video_seconds": 8.0,
        "scene_changes": 0,
        "bytes_read": 1000,
        "frames_decoded": 100,
        "accelerator_seconds": 0.1,
        "download_queue_ms": 1.0,
        "download_compute_ms": 10.0,
        "sample_queue_ms": 2.0,
        "sample_compute_ms": 20.0,
        "encode_queue_ms": latency - 145.0,
        "encode_compute_ms": 100.0,
        "decode_queue_ms": 1.0,
        "decode_compute_ms": 2.0,
        "unattributed_ms": 1.0,
        "server_total_ms": latency - 8.0,
    }
    return Request(
        request_id=number,
        stream_id=f"loadtest-{number}",
        level=level,
        video="clip",
        chunks=1,
        start_seconds=start,
        delay_ms=0.5,
        end_seconds=start + latency / 1000,
        latency_ms=latency,
        status="OK",
        **{**defaults, **fields},
    )


def refused(level: str, number: int, start: float) -> Request:
    return Request(
        request_id=number,
        stream_id=f"loadtest-{number}",
        level=level,
        video="clip",
        chunks=1,
        start_seconds=start,
        delay_ms=0.5,
        end_seconds=start + 0.001,
        latency_ms=1,
        status="RESOURCE_EXHAUSTED",
        reason="OVERLOADED",
        error=f"{number} requests are waiting",
    )


def measured(levels: Sequence[Level], failures: int = 0, slower: float = 1.0) -> Measured:
    """Each level for 20 s, ten requests a second; the first two seconds of each are slow."""
    result = Measured(notes=["the GPU page has gaps"])
    for index, level in enumerate(levels):
        begin = 30.0 * index
        for number in range(200):
            start = begin + number / 10
            latency = (200.0 + 5 * (number % 7) + 800 * (number < 20)) * slower
            result.requests.append(answered(level.name, number, start, latency))
        for number in range(failures):
            result.requests.append(refused(level.name, 1000 + number, begin + 10 + number / 100))
        result.sent.append(Sent(level, begin, begin + 20))
    for second in range(int(30 * len(levels)) + 1):
        at = float(second)
        result.samples += [
            Sample(at, "in_flight", 2),
            Sample(at, "queue.ingress", 2),
            Sample(at, "queue.encoder", second % 3),
            Sample(at, "queue.decoder", 0),
            Sample(at, "desired.encoder", 4),
            Sample(at, "ready.encoder", 1 if second < 5 else 4),
            Sample(at, "cpu_seconds.ingress", 0.5 * second),
            Sample(at, "machine_cpu", 0.25),
            Sample(at, "gpu_utilisation", 0.8),
        ]
    return result


def written(directory: Path, levels: Sequence[Level], ending: str = "complete", **options: float) -> Run:
    conditions = {
        "started_at": "2026-11-25T00:00:00+00:00",
        "command": ["python", "-m", "loadtest", "sweep"],
        "target": {"addresses": ["ingress:50051"], "connections": 4, "method": "unary", "timeout_seconds": 300.0},
        "stack": None,
        "videos": [asdict(CLIP)],
        "model": {"model_id": "<script>alert(1)</script>", "engine": "siglip"},
    }
    objectives = [parse_objective("p95=300ms"), parse_objective("p42=1s"), parse_objective("errors=0")]
    return run.write(directory, conditions, objectives, measured(levels, **options), ending)
