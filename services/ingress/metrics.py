"""What the ingress tells Prometheus beside its calls. Each series is there, at zero, before the first request."""

from prometheus_client import Counter, Gauge

from services.ingress.admission import Admission, Demand
from videoanalysis import metrics
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, StageTiming
from videoanalysis.v1.error_reason_pb2 import ErrorReason

QUEUE_DEPTH = "videoanalysis_queue_depth"
QUEUE_DEPTH_HELP = "Work that waits for a service or is at it, as this ingress sees it; what the service is scaled by."

ATTEMPTS = Counter(
    "videoanalysis_attempts_total",
    "Attempts at encoders and decoders; those that did not succeed were made elsewhere, if there was time.",
    ["service", "outcome"],
)

_queue_depth = Gauge(QUEUE_DEPTH, QUEUE_DEPTH_HELP, ["service"])
_video_seconds = Counter("videoanalysis_video_seconds_total", "Length of the videos that were analysed to the end.")
_bytes_read = Counter("videoanalysis_bytes_read_total", "Bytes fetched of these videos.")
_frames_decoded = Counter(
    "videoanalysis_frames_decoded_total", "Frames of these videos that were decoded to sample some."
)
_stage_seconds = Counter(
    "videoanalysis_stage_seconds_total",
    "Time that these videos took, each instant in the stage that the next chunk was in, as in Timing.",
    ["stage", "phase"],
)

_STAGES = ("download", "sample", "encode", "decode")
# The replica had no room or serves another model; could not be reached or failed at once; took it up and lost it.
_OUTCOMES = ("succeeded", "refused", "unavailable", "failed")
_REFUSALS = (ErrorReason.OVERLOADED, ErrorReason.SCRATCH_FULL)


def start_at_zero(service_name: str) -> None:
    for reason in _REFUSALS:
        metrics.REFUSED.labels(service_name, ErrorReason.Name(reason))
    for service in ("encoder", "decoder"):
        for outcome in _OUTCOMES:
            ATTEMPTS.labels(service, outcome)
    for stage in _STAGES:
        for phase in ("queue", "compute"):
            _stage_seconds.labels(stage, phase)


def follow(demand: Demand, admission: Admission, slots: int) -> None:
    """Show what these count; they are asked whenever Prometheus asks."""
    _queue_depth.labels("ingress").set_function(lambda: demand.ingress)
    _queue_depth.labels("encoder").set_function(lambda: demand.encoder)
    _queue_depth.labels("decoder").set_function(lambda: demand.decoder)
    metrics.WAITING.labels("ingress").set_function(lambda: admission.waiting)
    metrics.RUNNING.labels("ingress").set_function(lambda: admission.running)
    metrics.SLOTS.labels("ingress").set(slots)


def analysed(summary: AnalyzeVideoResponse) -> None:
    _video_seconds.inc(summary.video_duration_seconds)
    _bytes_read.inc(summary.usage.bytes_read)
    _frames_decoded.inc(summary.usage.frames_decoded)
    for stage in _STAGES:
        spent: StageTiming = getattr(summary.timing, stage)
        _stage_seconds.labels(stage, "queue").inc(spent.queue_seconds)
        _stage_seconds.labels(stage, "compute").inc(spent.compute_seconds)
