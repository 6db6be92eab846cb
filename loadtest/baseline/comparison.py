"""A run in the columns of the baseline's published table, above the baseline's rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.baseline import published
from loadtest.sweep.run import Run

# The last five: what compares between GPUs, and the conditions.
COLUMNS = (
    "conc.", "", "requests kept (of)", "mean ms", "P50", "P95", "P99", "req/s", "req/s per conc.",
    "of ideal", "P95 / service", "failed", "service × L4's", "CPU",
)  # fmt: skip
# A busier CPU limits the measured figures.
MAX_CPU = 0.6


@dataclass(frozen=True, slots=True)
class Line:
    cells: list[str]
    is_ours: bool


def lines(run: Run) -> list[Line]:
    """Each closed level of the run, followed by the baseline's row of the same concurrency."""
    service_ms = service_milliseconds(run)
    baseline = {row.concurrency: row for row in published.ROWS}
    found = []
    for level in run.levels:
        if level["kind"] != "closed":
            continue
        callers, latency = level["value"], level["latency_ms"]
        latencies = [latency.get(name) for name in ("mean", "p50", "p95", "p99")]
        cpu = level["series"].get("machine_cpu", {}).get("mean")
        ours = [
            *(f"{callers:g}", "this run", f"{level['kept']:,} ({level['requests']:,})"),
            *_figures(callers, latencies, level["rate"], service_ms),
            *(f"{level['failed']:,}", f"{service_ms / published.CHUNK_MS:.2g}" if service_ms else ""),
            "" if cpu is None else f"{cpu:.0%}",
        ]
        found.append(Line(ours, True))
        if (row := baseline.get(callers)) is not None:
            latencies = [row.mean_ms, row.p50_ms, row.p95_ms, row.p99_ms]
            theirs = [
                *("", "baseline", f"{row.kept:,} ({row.requests:,})"),
                *_figures(row.concurrency, latencies, row.rate, published.CHUNK_MS),
                *(f"{published.FAILURES}", "1", ""),
            ]
            found.append(Line(theirs, False))
    return found


def caveats(run: Run) -> list[str]:
    """The limits of the comparison."""
    service_ms = service_milliseconds(run)
    ours = f"{service_ms:,.0f} ms here" if service_ms else "unknown here"
    found = [
        "The Ray Serve baseline: a closed loop on NVIDIA L4s with autoscaling, an 8.27 s clip of one chunk, the second "
        "half of each run kept; replica counts are not published. Requests a second depend on the GPU and do not "
        "compare. Comparable are the share of the ideal rate, which is that of callers whose requests take only the "
        f"encoder's time for a chunk (about {published.CHUNK_MS:.0f} ms there, {ours}), P95 over that time, and "
        "failures. A slower encoder improves the first two, since the other costs stay the same.",
    ]
    if run.summary["model"].get("engine") == "synthetic":
        found.append(
            "The GPU is simulated: each encoder sleeps for its time. The figures show how the services queue, place "
            "work and fail, and their own cost; they do not show the speed of the model."
        )
    for level in run.levels:
        cpu = level["series"].get("machine_cpu", {}).get("mean")
        if cpu is not None and cpu > MAX_CPU:
            found.append(
                f"{level['level']}: the CPU of this machine was {cpu:.0%} busy, more than {MAX_CPU:.0%}; it limits "
                "these figures."
            )
    return found


def service_milliseconds(run: Run) -> float | None:
    """An encoder's time for a chunk: the setting of the stack, otherwise as reported by the encoders."""
    if run.summary["stack"]:
        return float(run.summary["stack"]["service_ms"])
    seconds = run.summary["service_times"].get("encode_seconds")
    return seconds * 1000 if seconds else None


def _figures(callers: float, latencies: Sequence[float | None], rate: float, service_ms: float | None) -> list[str]:
    p95 = latencies[2]
    return [
        *("" if value is None else f"{value:,.0f}" for value in latencies),
        f"{rate:.2f}",
        f"{rate / callers:.2f}",
        f"{rate * service_ms / 1000 / callers:.1%}" if service_ms else "",
        f"{p95 / service_ms:.2f}" if service_ms and p95 else "",
    ]
