"""Latencies as HDR histograms: three significant digits, from a microsecond to a day."""

from collections.abc import Iterable

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

SHOWN = ("p50", "p90", "p95", "p99", "p99.9")
_LONGEST_MICROSECONDS = 24 * 3600 * 1_000_000
_DIGITS = 3


def histogram(latencies_ms: Iterable[float]) -> HdrHistogram:
    """Of microseconds."""
    counted = HdrHistogram(1, _LONGEST_MICROSECONDS, _DIGITS)
    for latency in latencies_ms:
        record(counted, latency)
    return counted


def record(counted: HdrHistogram, latency_ms: float) -> None:
    counted.record_value(min(max(1, round(latency_ms * 1000)), _LONGEST_MICROSECONDS))


def statistics(counted: HdrHistogram, percentiles: Iterable[str] = SHOWN) -> dict[str, float]:
    """Milliseconds by name: mean, stddev, min, max and each of `percentiles`, as p95; empty for an empty histogram."""
    if counted.get_total_count() == 0:
        return {}
    found = {
        "mean": counted.get_mean_value(),
        "stddev": counted.get_stddev(),
        "min": counted.get_min_value(),
        **{name: counted.get_value_at_percentile(float(name.removeprefix("p"))) for name in percentiles},
        "max": counted.get_max_value(),
    }
    return {name: float(value) / 1000 for name, value in found.items()}


def encoded(counted: HdrHistogram) -> str:
    """The base64 format of HdrHistogram, which its implementations in all languages decode."""
    text: bytes = counted.encode()
    return text.decode()


def decoded(text: str) -> HdrHistogram:
    return HdrHistogram.decode(text.encode())
