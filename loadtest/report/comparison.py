"""A run in the columns of the original's published table, with its rows under ours."""

from dataclasses import dataclass

from loadtest.baseline import published as original
from loadtest.sweep.run import Run

COLUMNS = ("conc.", "", "requests kept (of)", "mean ms", "P50", "P95", "P99", "req/s", "req/s per conc.")
# What can be compared between GPUs, and what it was measured with.
OWN_COLUMNS = ("of ideal", "P95 / service", "failed", "service × L4's", "CPU")
# Above it the figures are of this machine rather than of the service.
BUSIEST_CPU = 0.6


@dataclass(frozen=True, slots=True)
class Line:
    cells: list[str]
    is_ours: bool


def lines(run: Run) -> list[Line]:
    """Of every closed level, ours and, where there is one, the original's."""
    service_ms = service_milliseconds(run)
    found = []
    for level in run.levels:
        if level["kind"] != "closed":
            continue
        latency, callers = level["latency_ms"], level["value"]
        cpu = level["beside"].get("machine_cpu", {}).get("mean")
        ours = [
            f"{callers:g}",
            "ours",
            f"{level['kept']:,} ({level['requests']:,})",
            *(_ms(latency.get(name)) for name in ("mean", "p50", "p95", "p99")),
            f"{level['rate']:.2f}",
            f"{level['rate'] / callers:.3g}",
            f"{original.efficiency(level['rate'], callers, service_ms / 1000):.1%}" if service_ms else "",
            f"{latency['p95'] / service_ms:.2f}" if service_ms and latency else "",
            f"{level['failed']:,}",
            f"{service_ms / original.CHUNK_MS:.2g}" if service_ms else "",
            "" if cpu is None else f"{cpu:.0%}",
        ]
        found.append(Line(ours, True))
        if (row := original.BY_CONCURRENCY.get(callers)) is not None:
            found.append(Line(_published(row), False))
    return found


def caveats(run: Run) -> list[str]:
    """What must be said beside the table."""
    service_ms = service_milliseconds(run)
    ours = f"{service_ms:,.0f} ms here" if service_ms else "not known here"
    said = [
        "The original: a closed loop on NVIDIA L4s with autoscaling on, an 8.27 s clip of one chunk, the second half "
        "of each run kept; replica counts are not published. Requests a second depend on the GPU and do not compare. "
        "What does: the share of the ideal rate, which is that of callers whose requests take nothing but the "
        f"encoder's time for a chunk (about {original.CHUNK_MS:.0f} ms there, {ours}), P95 over that time, and "
        "failures. A slower encoder flatters the first two, since what the rest costs stays the same.",
    ]
    if run.summary["model"].get("engine") == "synthetic":
        said.append(
            "The GPU is simulated: each encoder sleeps for its time. So this shows how the services queue, place work "
            "and fail, and what they cost beside the GPU; of the model's speed it shows nothing."
        )
    for level in run.levels:
        cpu = level["beside"].get("machine_cpu", {}).get("mean")
        if cpu is not None and cpu > BUSIEST_CPU:
            said.append(
                f"{level['level']}: the CPU of this machine was busy to {cpu:.0%}, over {BUSIEST_CPU:.0%}; these "
                "figures are of the machine rather than of the service."
            )
    return said


def service_milliseconds(run: Run) -> float | None:
    """An encoder's time for a chunk: as it was set, otherwise as encoders told it."""
    if run.summary["stack"]:
        return float(run.summary["stack"]["service_ms"])
    seconds = run.summary["service_times"].get("encode_seconds")
    return seconds * 1000 if seconds else None


def _published(row: original.Row) -> list[str]:
    return [
        "",
        "original",
        f"{row.kept:,} ({row.requests:,})",
        *(_ms(value) for value in (row.mean_ms, row.p50_ms, row.p95_ms, row.p99_ms)),
        f"{row.rate:.2f}",
        f"{row.rate_per_concurrency:.2f}",
        f"{original.efficiency(row.rate, row.concurrency, original.CHUNK_MS / 1000):.1%}",
        f"{row.p95_ms / original.CHUNK_MS:.2f}",
        f"{original.FAILURES}",
        "1",
        "",
    ]


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
