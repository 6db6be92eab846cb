"""A rehearsal in words and tables."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from loadtest.simulate.optimise import Prices, Tried, measured, settings
from loadtest.simulate.outcome import Outcome, percentile
from loadtest.simulate.plan import SERVICES, ClosedLoad, Deployment, OpenLoad
from loadtest.sweep.slo import Objective


def show(console: Console, outcome: Outcome, load: OpenLoad | ClosedLoad, price: float) -> None:
    console.print(_figures(outcome, price))
    if load.spans:
        console.print(_spans(outcome, load))
    console.print(
        f"{outcome.seconds / 3600:.2g} h rehearsed in {outcome.cpu_seconds:.1f} s of CPU time, "
        f"{outcome.events / outcome.cpu_seconds:,.0f} events a second",
        style="dim",
    )


def compare(console: Console, before: Deployment, outcome: Outcome, found: Tried, prices: Prices) -> None:
    table = Table("setting", "chart", "found", title="The cheapest found")
    for (name, old), new in zip(settings(before).items(), settings(found.deployment).values(), strict=True):
        table.add_row(name, f"{old:g}", f"{new:g}", style="bold" if old != new else "")
    table.add_row("cost", f"{prices.of(outcome):.2f}", f"{found.price:.2f}")
    console.print(table)
    if found.excess:
        console.print("Nothing that was tried meets the objectives; this comes closest.", style="bold")


def checked(console: Console, objectives: Sequence[Objective], checks: Sequence[Outcome]) -> None:
    """How it does with callers for whom it was not chosen."""
    for objective in objectives:
        values = ", ".join(_value(objective, check) for check in checks)
        console.print(f"{objective.text} with other callers: {values}")


def verdicts(console: Console, objectives: Sequence[Objective], outcome: Outcome) -> bool:
    """Whether all are met."""
    all_met = True
    for objective in objectives:
        value = measured(objective, outcome)
        is_met = value >= objective.limit if objective.metric == "rate" else value <= objective.limit
        all_met = all_met and is_met
        console.print(f"{objective.text}: {_value(objective, outcome)}, {'met' if is_met else 'NOT met'}")
    return all_met


def _figures(outcome: Outcome, price: float) -> Table:
    table = Table(show_header=False, box=None)
    answers, refused = len(outcome.answers), len(outcome.refusals)
    seconds = ", ".join(f"{name} {outcome.latency(name):.2f}" for name in ("p50", "p95", "p99", "max"))
    table.add_row("videos", f"{answers:,} answered, {refused:,} refused, {outcome.unanswered:,} never answered")
    table.add_row("seconds to the answer", seconds)
    table.add_row(
        "waiting",
        f"for a place p95 {percentile(outcome.waits, 95):.2f} s, "
        f"a chunk for an encoder {outcome.encode_wait_seconds:.3f} s on average",
    )
    if outcome.interrupted:
        table.add_row("interrupted", f"{outcome.interrupted:,} videos, which went on elsewhere")
    for service in SERVICES:
        course = outcome.courses[service]
        table.add_row(
            f"{service} replicas",
            f"{course.ready.min():.0f} to {course.ready.max():.0f} ready, {course.ready.mean():.1f} on average, "
            f"{outcome.node_seconds[service] / 3600:.1f} h",
        )
    table.add_row(
        "GPU-hours", f"{outcome.gpu_hours:.2f}, of which {outcome.utilization:.0%} computing; cost {price:.2f}"
    )
    return table


def _spans(outcome: Outcome, load: OpenLoad | ClosedLoad) -> Table:
    """The original's columns, and replicas beside them; seconds in ms, replicas on average."""
    closed = isinstance(load, ClosedLoad)
    # The columns leave no room for what never happens.
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


def _value(objective: Objective, outcome: Outcome) -> str:
    value = measured(objective, outcome)
    match objective.metric:
        case "latency":
            return f"{value:,.0f} ms"
        case "errors":
            return f"{value:g}"
        case "error_share":
            return f"{value:.2%}"
        case "rate":
            return f"{value:.2f}/s"
