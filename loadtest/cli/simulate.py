"""`python -m loadtest simulate`: the capacity simulation of the chart's autoscaling."""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loadtest.errors import InvalidOption
from loadtest.simulate import simulation as model
from loadtest.simulate import tables, values
from loadtest.simulate.arrivals import ChunkMix
from loadtest.simulate.cost import Prices
from loadtest.simulate.fleet import Start
from loadtest.simulate.plan import SERVICES, STARTS, Plan, Service
from loadtest.simulate.scenario import Scenario, Traffic
from loadtest.simulate.service_times import ServiceTimes
from loadtest.sweep.mix import parse_weights
from loadtest.sweep.slo import EXIT_CODE_MISSED, figure, parse_objective
from videoanalysis.cli import runner


def simulate(
    traffic: Annotated[
        Traffic, typer.Argument(help="poisson, spike, day, ramp (of waiting callers), or a recorded trace.")
    ] = Traffic.RAMP,
    chart_values: Annotated[
        list[Path] | None, typer.Option("--values", help="Values files over the chart's own, as for helm.")
    ] = None,
    chart_set: Annotated[
        list[str] | None, typer.Option("--set", help="One value, such as encoder.autoscaling.minReplicas=3.")
    ] = None,
    times: Annotated[
        Path | None, typer.Option(help='Service times: a sweep\'s summary.json, or {"encode_seconds": 0.15, …}.')
    ] = None,
    time: Annotated[
        list[str] | None, typer.Option(help="One service time over those, such as encode_seconds=0.75.")
    ] = None,
    start: Annotated[
        list[str] | None,
        typer.Option(help="One start-up time, such as encoder.load=20: node, pull, load, discovery."),
    ] = None,
    rate: Annotated[float, typer.Option(min=1e-6, help="Videos a second: the peak of a day, the base of a spike.")] = 5,
    minutes: Annotated[float, typer.Option(min=0.1, help="Duration; a day and a trace have their own.")] = 60,
    mix: Annotated[str, typer.Option(help="Chunks per video with their weights, such as 1:70,6:25,60:5.")] = "1",
    factor: Annotated[float, typer.Option(min=0.01, help="The rate of a spike over its base.")] = 10,
    spike_minutes: Annotated[
        float, typer.Option(min=0.1, help="Duration of a spike, which starts after a sixth of the time.")
    ] = 10,
    callers: Annotated[str, typer.Option(help="Concurrent callers of each level of a ramp.")] = "2,4,8,16,32,64",
    trace: Annotated[Path | None, typer.Option(help="CSV with the columns start_seconds and chunks.")] = None,
    slo: Annotated[list[str] | None, typer.Option(help="Objective, such as p95=2s or errors=0; repeatable.")] = None,
    gpu_price: Annotated[float, typer.Option(min=0, help="Price of a GPU-hour.")] = Prices().gpu,
    core_price: Annotated[float, typer.Option(min=0, help="Price of a CPU core-hour.")] = Prices().core,
    plot: Annotated[Path | None, typer.Option(help="Draw the simulation over time: .png, .svg or .pdf.")] = None,
    summary: Annotated[Path | None, typer.Option(help="Write all figures as JSON.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random values.")] = 1,
) -> None:
    """Simulate the chart's autoscaling under a load: replicas, waits, refusals, GPU-hours and cost, without a cluster.

    A model of KEDA, the HPA and the three services on simulated time; docs/capacity-simulation.md states its accuracy.
    Exit code 0; 3 if an objective was missed; 2 for invalid options.
    """
    console = Console()
    try:
        scenario = Scenario(
            traffic,
            rate=rate,
            seconds=60 * minutes,
            mix=ChunkMix(parse_weights("--mix", mix)),
            factor=factor,
            spike_begins=60 * minutes / 6,
            spike_seconds=60 * spike_minutes,
            callers=_counts(callers),
            trace=trace,
        )
        plan = Plan(
            values.deployment(values.read([values.CHART, *(chart_values or [])], chart_set or [])),
            scenario.load(seed),
            _times(times, time or []),
            _starts(start or []),
            seed=seed,
        )
        objectives = [parse_objective(text) for text in slo or []]
        if plot is not None and plot.suffix not in (".png", ".svg", ".pdf"):
            raise InvalidOption(f"--plot: {plot}, must end in .png, .svg or .pdf")
        for option, path in (("--plot", plot), ("--summary", summary)):
            if path is not None and not path.absolute().parent.is_dir():
                raise InvalidOption(f"{option}: there is no directory {path.parent}")
    except InvalidOption as error:
        runner.usage_error(str(error))
    outcome = model.simulate(plan)
    tables.show(outcome, plan.load, Prices(gpu_price, core_price).cost(outcome), console)
    if plot is not None:
        # matplotlib is slow to import.
        from loadtest.simulate import plot as picture

        picture.write(outcome, plot, f"{traffic}: {len(outcome.answers)} videos")
    if summary is not None:
        summary.write_text(json.dumps(outcome.figures(), indent=2) + "\n")
    verdicts = tables.verdicts(objectives, outcome)
    for verdict in verdicts:
        console.print(f"{verdict.objective}: {figure(verdict.value)} {'met' if verdict.is_met else 'MISSED'}")
    if not all(verdict.is_met for verdict in verdicts):
        raise typer.Exit(EXIT_CODE_MISSED)


def _times(path: Path | None, changes: list[str]) -> ServiceTimes:
    times = ServiceTimes.read(path) if path is not None else ServiceTimes()
    return replace(times, **dict(_assigned("--time", change, times.by_name()) for change in changes))


def _starts(changes: list[str]) -> dict[Service, Start]:
    starts = dict(STARTS)
    known = {f"{service}.{field.name}": 0.0 for service in SERVICES for field in fields(Start)}
    for change in changes:
        name, seconds = _assigned("--start", change, known)
        owner, _, field = name.partition(".")
        service = next(service for service in SERVICES if service == owner)
        starts[service] = replace(starts[service], **{field: seconds})
    return starts


def _assigned(option: str, text: str, known: Mapping[str, float]) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if name not in known or not 0 <= number < 1e6:
        raise InvalidOption(f"{option}: {text}, must be NAME=SECONDS with one of {', '.join(known)}")
    return name, number


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise InvalidOption(f"--callers: {text}, must be whole numbers with commas between them, such as 2,4,8")
    return counts
