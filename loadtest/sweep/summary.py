"""The summary of a level: the figures of its steady state."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from loadtest.sweep import percentiles, samples, steady_state
from loadtest.sweep.levels import Level
from loadtest.sweep.record import STAGES, Request, Sample
from loadtest.target.source import CPU_SECONDS
from videoanalysis.scaling.snapshot import SERVICES

# An open loop with a lower ratio of answers to arrivals has no steady state: its queue grows.
_KEEPS_UP = 0.95
_MILLISECONDS = 1000
_PHASES = ("queue", "compute")


@dataclass(frozen=True, slots=True)
class Sent:
    """A level that was started, and when requests were sent, in seconds from the start of the run."""

    level: Level
    begin_seconds: float
    end_seconds: float


def summarise(
    sent: Sent, requests: Sequence[Request], sampled: Sequence[Sample], extra_percentiles: Iterable[str] = ()
) -> dict[str, Any]:
    """Figures of one level, ready for JSON.

    Latencies are those of requests due in the steady state; the rate counts answers received in it. Errors count over
    the whole level.
    """
    due = sorted(requests, key=lambda request: request.start_seconds)
    answered = [request for request in due if request.is_ok]
    steady = steady_state.detect([one.latency_ms for one in answered], [one.video for one in answered])
    begin = answered[steady.dropped].start_seconds if steady.dropped else sent.begin_seconds
    end = sent.end_seconds
    seconds = max(end - begin, 1e-9)
    kept = [request for request in due if begin <= request.start_seconds <= end]
    kept_ok = [request for request in kept if request.is_ok]
    latencies = [request.latency_ms for request in kept_ok]
    in_time = [request for request in answered if begin <= request.end_seconds <= end]
    offered, rate = len(kept) / seconds, len(in_time) / seconds
    remark, is_steady = steady.remark, steady.is_steady
    if is_steady and sent.level.kind == "open" and rate < _KEEPS_UP * offered:
        is_steady, remark = False, "no steady state: answers come more slowly than requests"
    counted = percentiles.histogram(latencies)
    shown = dict.fromkeys([*percentiles.SHOWN, *extra_percentiles])
    return {
        "level": sent.level.name,
        "kind": sent.level.kind,
        "value": sent.level.value,
        "begin_seconds": sent.begin_seconds,
        "end_seconds": end,
        "steady_state": {
            "method": steady_state.METHOD,
            "is_steady": is_steady,
            "remark": remark,
            "begin_seconds": begin,
            "warm_up_requests": steady.dropped,
            "drift": steady.drift,
        },
        "requests": len(due),
        "kept": len(kept_ok),
        "failed": len(due) - len(answered),
        "offered_rate": offered,
        "rate": rate,
        "latency_ms": percentiles.statistics(counted, shown),
        "mean_confidence_ms": steady_state.confidence(latencies),
        "histogram_us": percentiles.encoded(counted),
        "by_video": _by_video(kept_ok),
        "errors": _errors(due),
        "stages_ms": _stages(kept_ok),
        "delay_ms": _mean_and_max([request.delay_ms for request in kept]),
        "cost": _cost(in_time, sampled, begin, end),
        "series": _series(sampled, begin, end),
    }


def service_times(requests: Iterable[Request]) -> dict[str, float]:
    """Mean seconds of each stage, for the capacity simulation; empty without videos of one chunk.

    In videos of one chunk no stages overlap. The encoder reports its own time.
    """
    alone = [request for request in requests if request.is_ok and request.chunks == 1]
    if not alone:
        return {}
    return {
        "download_seconds": _mean(alone, "download_compute_ms") / _MILLISECONDS,
        "sample_seconds": _mean(alone, "sample_compute_ms") / _MILLISECONDS,
        "encode_seconds": _mean(alone, "accelerator_seconds"),
        "decode_seconds": _mean(alone, "decode_compute_ms") / _MILLISECONDS,
    }


def _by_video(requests: Sequence[Request]) -> dict[str, dict[str, float]]:
    found = {}
    for video in sorted({request.video for request in requests}):
        of_video = [request for request in requests if request.video == video]
        counted = percentiles.histogram(request.latency_ms for request in of_video)
        found[video] = {"kept": len(of_video), "chunks": of_video[0].chunks, **percentiles.statistics(counted)}
    return found


def _errors(requests: Iterable[Request]) -> list[dict[str, Any]]:
    """Each kind with its count and an example message, the most frequent first."""
    failures = [request for request in requests if not request.is_ok]
    counts = Counter((request.status, request.reason) for request in failures)
    examples = {(request.status, request.reason): request.error for request in reversed(failures)}
    return [
        {"status": status, "reason": reason, "count": count, "example": examples[status, reason]}
        for (status, reason), count in counts.most_common()
    ]


def _stages(requests: Sequence[Request]) -> dict[str, float]:
    """Means. `outside` is the latency outside of the service: the network, and the delay of sending."""
    if not requests:
        return {}
    names = [f"{stage}_{phase}" for stage in STAGES for phase in _PHASES]
    means = {name: _mean(requests, f"{name}_ms") for name in [*names, "unattributed", "server_total"]}
    means["outside"] = fmean(request.latency_ms - (request.server_total_ms or 0.0) for request in requests)
    return means


def _cost(requests: Sequence[Request], sampled: Sequence[Sample], begin: float, end: float) -> dict[str, Any]:
    """Of the answers in the steady state; CPU only where processes are sampled."""
    minutes = sum(request.video_seconds or 0.0 for request in requests) / 60
    accelerator = sum(request.accelerator_seconds or 0.0 for request in requests)
    cpu = {
        service: growth
        for service in SERVICES
        if (growth := samples.growth(sampled, f"{CPU_SECONDS}.{service}", begin, end)) is not None
    }
    return {
        "video_minutes": minutes,
        "accelerator_seconds": accelerator,
        "cpu_seconds": cpu,
        "accelerator_seconds_per_video_minute": accelerator / minutes if minutes else None,
        "cpu_seconds_per_video_minute": sum(cpu.values()) / minutes if minutes and cpu else None,
    }


def _series(sampled: Sequence[Sample], begin: float, end: float) -> dict[str, Mapping[str, float]]:
    """Mean and maximum of every series but the counters."""
    series = sorted({one.series for one in sampled if not one.series.startswith(CPU_SECONDS)})
    return {name: found for name in series if (found := _mean_and_max(samples.within(sampled, name, begin, end)))}


def _mean_and_max(values: Sequence[float]) -> dict[str, float]:
    return {"mean": fmean(values), "max": max(values)} if values else {}


def _mean(requests: Sequence[Request], field: str) -> float:
    return fmean(getattr(request, field) or 0.0 for request in requests)
