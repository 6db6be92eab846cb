"""Metrics of the ingress apart from those of its calls. Every series exists, at zero, before the first request."""

from collections.abc import Mapping

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from services.ingress.admission import Admission, Demand
from videoanalysis import metrics
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, StageTiming
from videoanalysis.v1.error_reason_pb2 import ErrorReason

ATTEMPTS = Counter(
    "videoanalysis_attempts_total",
    "Attempts at encoders and decoders. One that does not succeed is repeated on another replica until the deadline.",
    ["service", "outcome"],
)


def queue_depth(registry: CollectorRegistry) -> Gauge:
    return Gauge(
        "videoanalysis_queue_depth",
        "Work that waits for a service or is in progress there, as this ingress counts it. Services are scaled by it.",
        ["service"],
        registry=registry,
    )


_queue_depth = queue_depth(REGISTRY)
_arriving = Gauge(
    "videoanalysis_arriving",
    "Requests that do not wait for a slot yet, because their callers have not read the first progress message.",
)
_video_seconds = Counter("videoanalysis_video_seconds_total", "Duration of the videos that were analysed to the end.")
_bytes_read = Counter("videoanalysis_bytes_read_total", "Bytes read of these videos.")
_frames_decoded = Counter("videoanalysis_frames_decoded_total", "Frames decoded to sample these videos.")
_sandbox = Gauge(
    "videoanalysis_sampling_sandbox", "Whether a measure of the sampling processes' sandbox is in force.", ["measure"]
)
_stage_seconds = Counter(
    "videoanalysis_stage_seconds_total",
    "Time these videos took, each instant counted in the stage of the next undelivered chunk, as in Timing.",
    ["stage", "phase"],
)

_STAGES = ("download", "sample", "encode", "decode")
# refused: the replica has no free slot, or another model or text bank; unavailable: it could not be reached or failed
# at once; failed: it failed after it had accepted the work.
_OUTCOMES = ("succeeded", "refused", "unavailable", "failed")
_REFUSALS = (ErrorReason.OVERLOADED, ErrorReason.CALLER_OVER_LIMIT, ErrorReason.SCRATCH_FULL)


def start_at_zero(service_name: str) -> None:
    for reason in _REFUSALS:
        metrics.REFUSED.labels(service_name, ErrorReason.Name(reason))
    for service in ("encoder", "decoder"):
        for outcome in _OUTCOMES:
            ATTEMPTS.labels(service, outcome)
    for stage in _STAGES:
        for phase in ("queue", "compute"):
            _stage_seconds.labels(stage, phase)


def export_sandbox(measures: Mapping[str, bool]) -> None:
    """Each measure, and whether it is in force."""
    for measure, is_in_force in measures.items():
        _sandbox.labels(measure).set(is_in_force)


def export_demand(demand: Demand, gauge: Gauge) -> None:
    gauge.labels("ingress").set_function(lambda: demand.ingress)
    gauge.labels("encoder").set_function(lambda: demand.encoder)
    gauge.labels("decoder").set_function(lambda: demand.decoder)


def export_counts(demand: Demand, admission: Admission, slots: int) -> None:
    """Exports the counts of `demand` and `admission`, read at each scrape."""
    export_demand(demand, _queue_depth)
    metrics.WAITING.labels("ingress").set_function(lambda: admission.waiting)
    metrics.RUNNING.labels("ingress").set_function(lambda: admission.running)
    _arriving.set_function(lambda: admission.arriving)
    metrics.SLOTS.labels("ingress").set(slots)


def analysed(summary: AnalyzeVideoResponse) -> None:
    """Adds an analysis that has succeeded."""
    _video_seconds.inc(summary.video_duration_seconds)
    _bytes_read.inc(summary.usage.bytes_read)
    _frames_decoded.inc(summary.usage.frames_decoded)
    for stage in _STAGES:
        spent: StageTiming = getattr(summary.timing, stage)
        _stage_seconds.labels(stage, "queue").inc(spent.queue_seconds)
        _stage_seconds.labels(stage, "compute").inc(spent.compute_seconds)
