"""The outcome of a simulation as tables for a terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from loadtest.simulate.outcome import Outcome, percentile
from loadtest.simulate.plan import SERVICES, ClosedLoad, OpenLoad
from loadtest.sweep.slo import Objective, Verdict, judge

_PERCENTILES = ("p50", "p95", "p99")


def show(outcome: Outcome, load: OpenLoad | ClosedLoad, cost: float, console: Console) -> None:
    console.print(_figures(outcome, cost))
    if load.spans:
        console.print(_spans(outcome, load))
    console.print(
        f"{outcome.seconds / 3600:.2g} h simulated in {outcome.cpu_seconds:.1f} s of CPU time, "
        f"{outcome.events / outcome.cpu_seconds:,.0f} events a second",
        style="dim",
    )


def verdicts(objectives: Sequence[Objective], outcome: Outcome) -> list[Verdict]:
    """Refused and unanswered requests are errors."""
    errors = len(outcome.refusals) + outcome.unanswered
    statistics = {one.statistic for one in objectives if one.statistic} if len(outcome.answers) else set()
    return [
        judge(
            objective,
            "",
            latency={name: 1000 * outcome.latency(name) for name in statistics},
            errors=errors,
            sent=errors + len(outcome.answers),
            rate=len(outcome.answers) / outcome.seconds,
        )
        for objective in objectives
    ]


def _figures(outcome: Outcome, cost: float) -> Table:
    table = Table(show_header=False, box=None)
    answers, refused = len(outcome.answers), len(outcome.refusals)
    seconds = ", ".join(f"{name} {outcome.latency(name):.2f}" for name in (*_PERCENTILES, "max"))
    table.add_row("videos", f"{answers:,} answered, {refused:,} refused, {outcome.unanswered:,} never answered")
    table.add_row("latency in seconds", seconds)
    table.add_row(
        "waits",
        f"for a slot p95 {percentile(outcome.waits, 95):.2f} s, "
        f"of a chunk for an encoder {outcome.encode_wait_seconds:.3f} s on average",
    )
    if outcome.interrupted:
        table.add_row("interrupted", f"{outcome.interrupted:,} videos, which continued at other ingresses")
    for service in SERVICES:
        course = outcome.courses[service]
        table.add_row(
            f"{service} replicas",
            f"{course.ready.min():.0f} to {course.ready.max():.0f} ready, {course.ready.mean():.1f} on average, "
            f"{outcome.node_seconds[service] / 3600:.1f} h",
        )
    table.add_row("GPU-hours", f"{outcome.gpu_hours:.2f}, {outcome.utilization:.0%} of them computing; cost {cost:.2f}")
    return table


def _spans(outcome: Outcome, load: OpenLoad | ClosedLoad) -> Table:
    """Latencies in ms and mean replicas; a closed load has the columns of the baseline's published table."""
    closed = isinstance(load, ClosedLoad)
    # Only where there are any, for lack of width.
    refused = len(outcome.refusals) > 0
    columns = ["conc." if closed else "span", "answers", *(["refused"] if refused else []), "mean", "P50", "P95", "P99"]
    columns += ["req/s", *(["/conc."] if closed else []), "ingr.", "enc.", "dec."]
    table = Table(*columns, box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for column in table.columns:
        column.no_wrap = True
    for span in load.spans:
        part = outcome.part(span.begins, span.ends)
        rate = len(part.latencies) / part.seconds
        latencies = [part.latencies.mean() if len(part.latencies) else float("nan")]
        latencies += [percentile(part.latencies, percent) for percent in (50, 95, 99)]
        table.add_row(
            span.name,
            f"{len(part.latencies):,}",
            *([f"{part.refused:,}"] if refused else []),
            *(f"{1000 * latency:,.0f}" for latency in latencies),
            f"{rate:.1f}",
            *([f"{rate / int(span.name):.2f}"] if closed else []),
            *(f"{part.ready[service]:.1f}" for service in SERVICES),
        )
    return table
