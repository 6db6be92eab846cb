"""Metrics of the encoder, apart from those of its calls. Each series exists, at zero, before the model is loaded."""

from dataclasses import asdict

from prometheus_client import Counter, Gauge, Info

from services.encoder.admission import Admission
from services.encoder.engine import Encoded, Model
from videoanalysis import metrics
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_accelerator_seconds = Counter(
    "videoanalysis_accelerator_seconds_total", "Accelerator time of chunks, cancelled ones included."
)
_frames_encoded = Counter("videoanalysis_frames_encoded_total", "Frames encoded, cancelled chunks included.")
_start_seconds = Gauge("videoanalysis_start_seconds", "Time from process start until the model was warm; 0 before.")
_model = Info("videoanalysis_model", "The served model.")


def start_at_zero(service_name: str) -> None:
    metrics.REFUSED.labels(service_name, ErrorReason.Name(ErrorReason.ENCODER_BUSY))
    for gauge in (metrics.WAITING, metrics.RUNNING, metrics.SLOTS):
        gauge.labels("encoder")


def register(chunks: Admission, slots: int) -> None:
    """Publish the queue of `chunks`, read at every scrape."""
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
