"""Requests and samples of a run, and their CSV files."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from loadtest.errors import InvalidRun

REQUESTS = "requests.csv"
SAMPLES = "samples.csv"
SUMMARY = "summary.json"

# As many requests as --max-in-flight allows were in flight.
NOT_SENT = "NOT_SENT"
# The stream ended with OK, but without its summary.
INCOMPLETE = "INCOMPLETE"

STAGES = ("download", "sample", "encode", "decode")


@dataclass(frozen=True, slots=True)
class Request:
    """Seconds count from the start of the run. Fields of the answer are None if there is none."""

    request_id: int
    stream_id: str
    level: str
    video: str
    chunks: int
    # When the request was due. The latency counts from here, not from when it was sent.
    start_seconds: float
    delay_ms: float
    end_seconds: float
    latency_ms: float
    # A gRPC code, NOT_SENT or INCOMPLETE; `reason` is the service's own.
    status: str
    reason: str = ""
    error: str = ""
    # From start_seconds to the first chunk of a stream.
    first_chunk_ms: float | None = None
    video_seconds: float | None = None
    scene_changes: int | None = None
    bytes_read: int | None = None
    frames_decoded: int | None = None
    accelerator_seconds: float | None = None
    download_queue_ms: float | None = None
    download_compute_ms: float | None = None
    sample_queue_ms: float | None = None
    sample_compute_ms: float | None = None
    encode_queue_ms: float | None = None
    encode_compute_ms: float | None = None
    decode_queue_ms: float | None = None
    decode_compute_ms: float | None = None
    unattributed_ms: float | None = None
    server_total_ms: float | None = None

    @property
    def is_ok(self) -> bool:
        return self.status == "OK"


@dataclass(frozen=True, slots=True)
class Sample:
    """A value at a time, in seconds from the start of the run."""

    elapsed_seconds: float
    series: str
    value: float


def write_requests(directory: Path, requests: Iterable[Request]) -> None:
    names = [field.name for field in fields(Request)]
    with (directory / REQUESTS).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(names)
        rows.writerows([_written(getattr(request, name)) for name in names] for request in requests)


def write_samples(directory: Path, samples: Iterable[Sample]) -> None:
    with (directory / SAMPLES).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow([field.name for field in fields(Sample)])
        rows.writerows((f"{sample.elapsed_seconds:.3f}", sample.series, sample.value) for sample in samples)


def read_requests(directory: Path) -> list[Request]:
    """Raises InvalidRun."""
    kinds = {field.name: field.type for field in fields(Request)}
    try:
        return [
            Request(**{name: _read(kind, row[name]) for name, kind in kinds.items()})
            for row in _rows(directory / REQUESTS)
        ]
    except (KeyError, ValueError, TypeError) as error:
        raise InvalidRun(f"{directory / REQUESTS}: not as a sweep writes it ({error})") from error


def read_samples(directory: Path) -> list[Sample]:
    """Raises InvalidRun."""
    try:
        return [
            Sample(float(row["elapsed_seconds"]), row["series"], float(row["value"]))
            for row in _rows(directory / SAMPLES)
        ]
    except (KeyError, ValueError, TypeError) as error:
        raise InvalidRun(f"{directory / SAMPLES}: not as a sweep writes it ({error})") from error


def _rows(path: Path) -> Sequence[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise InvalidRun(f"{path}: {error.strerror}; name the directory of a sweep") from error


def _written(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return "" if value is None else value


def _read(kind: object, text: str) -> Any:
    if kind is str:
        return text
    if text == "" and kind in (int | None, float | None):
        return None
    return int(text) if kind in (int, int | None) else float(text)
