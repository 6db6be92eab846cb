"""Latencies as HDR histograms: three significant digits from a microsecond to a day, to be merged by any HDR tool."""

from collections.abc import Iterable

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

SHOWN = ("p50", "p90", "p95", "p99", "p99.9")
_LONGEST_MICROSECONDS = 24 * 3600 * 1_000_000
_DIGITS = 3


def histogram(latencies_ms: Iterable[float]) -> HdrHistogram:
    """Of microseconds."""
    counted = HdrHistogram(1, _LONGEST_MICROSECONDS, _DIGITS)
    for latency in latencies_ms:
        counted.record_value(min(max(1, round(latency * 1000)), _LONGEST_MICROSECONDS))
    return counted


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
    """In base 64, as HdrHistogram.decode and its kin in other languages take it."""
    text: bytes = counted.encode()
    return text.decode()


def decoded(text: str) -> HdrHistogram:
    return HdrHistogram.decode(text.encode())
