"""Metrics of the encoder besides those of its calls. Each series exists, at zero, before the model is loaded."""

from dataclasses import asdict

from prometheus_client import Counter, Gauge, Info

from services.encoder.admission import Admission
from services.encoder.engine import Encoded, Model
from videoanalysis import metrics
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_accelerator_seconds = Counter(
    "videoanalysis_accelerator_seconds_total", "Computation of chunks, also of those whose caller had left."
)
_frames_encoded = Counter("videoanalysis_frames_encoded_total", "Frames of these chunks.")
_start_seconds = Gauge("videoanalysis_start_seconds", "What loading and warming up took; 0 until then.")
_model = Info("videoanalysis_model", "The model that is served.")


def start_at_zero(service_name: str) -> None:
    metrics.REFUSED.labels(service_name, ErrorReason.Name(ErrorReason.ENCODER_BUSY))
    for gauge in (metrics.WAITING, metrics.RUNNING, metrics.SLOTS):
        gauge.labels("encoder")


def follow(chunks: Admission, slots: int) -> None:
    """Show what `chunks` counts; it is asked whenever Prometheus asks."""
    metrics.WAITING.labels("encoder").set_function(lambda: chunks.parked)
    metrics.RUNNING.labels("encoder").set_function(lambda: chunks.in_flight)
    metrics.SLOTS.labels("encoder").set(slots)


def warm(model: Model, start_seconds: float) -> None:
    _start_seconds.set(start_seconds)
    _model.info({name: str(value) for name, value in asdict(model).items()})


def encoded(result: Encoded) -> Encoded:
    _accelerator_seconds.inc(result.compute_seconds)
    _frames_encoded.inc(len(result.embeddings))
    return result
