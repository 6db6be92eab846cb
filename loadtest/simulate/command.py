"""`python -m loadtest rehearse`: what the autoscaling would do."""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from loadtest.bad_option import BadOption
from loadtest.simulate import optimise as search
from loadtest.simulate import plot as picture
from loadtest.simulate import report, values
from loadtest.simulate.arrivals import ChunkMix
from loadtest.simulate.fleet import Start
from loadtest.simulate.optimise import Prices, Tried
from loadtest.simulate.outcome import Outcome
from loadtest.simulate.plan import SERVICES, STARTS, Deployment, Plan, Service
from loadtest.simulate.scenarios import Scenario, Traffic
from loadtest.simulate.service_times import ServiceTimes
from loadtest.simulate.simulation import rehearse as play
from loadtest.sweep.slo import Objective, parse_objective

# With other callers than those for whom the values were chosen.
_CHECKING_SEEDS = 3


def rehearse(
    traffic: Annotated[
        Traffic, typer.Argument(help="constant, poisson, spike, day, ramp (callers who wait), or a recorded trace.")
    ] = Traffic.RAMP,
    chart_values: Annotated[
        list[Path] | None, typer.Option("--values", help="Values files over the chart's own, as for helm.")
    ] = None,
    chart_set: Annotated[
        list[str] | None, typer.Option("--set", help="One value, as in encoder.autoscaling.minReplicas=3.")
    ] = None,
    times: Annotated[
        Path | None, typer.Option(help='Service times: a sweep\'s summary.json, or {"encode_seconds": 0.15, …}.')
    ] = None,
    time: Annotated[
        list[str] | None, typer.Option(help="One service time over those, as in encode_seconds=0.75.")
    ] = None,
    start: Annotated[
        list[str] | None,
        typer.Option(
            help="What a new replica waits for, as in encoder.load=20: node, pull, load, discovery, keep_node."
        ),
    ] = None,
    rate: Annotated[float, typer.Option(min=1e-6, help="Videos a second: the peak of a day, the base of a spike.")] = 5,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long; a day is a day, a trace as long as it is.")] = 60,
    mix: Annotated[str, typer.Option(help="Chunks per video with their weights, as in 1:70,6:25,60:5.")] = "1",
    factor: Annotated[float, typer.Option(min=0.01, help="Of a spike, over its base.")] = 10,
    spike_minutes: Annotated[float, typer.Option(min=0.1, help="It begins after a sixth of the time.")] = 10,
    callers: Annotated[str, typer.Option(help="Of a ramp, level after level.")] = "2,4,8,16,32,64",
    trace: Annotated[Path | None, typer.Option(help="CSV with the columns start_seconds and chunks.")] = None,
    slo: Annotated[
        list[str] | None, typer.Option(help="What must hold, as in p95=2s or errors=0; if not, the exit code is 1.")
    ] = None,
    optimise: Annotated[bool, typer.Option("--optimise", help="Search the cheapest settings that meet --slo.")] = False,
    gpu_price: Annotated[float, typer.Option(min=0, help="Of a GPU's hour, for the cost.")] = Prices().gpu,
    core_price: Annotated[float, typer.Option(min=0, help="Of a CPU core's hour.")] = Prices().core,
    plot: Annotated[Path | None, typer.Option(help="Write the course as a picture: .png, .svg or .pdf.")] = None,
    summary: Annotated[Path | None, typer.Option(help="Write all figures as JSON.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is left to chance.")] = 1,
) -> None:
    """Rehearse the chart's autoscaling without a cluster: replicas, waits, refusals and GPU-hours under a given load.

    A model of KEDA, the HPA and the three services, on simulated time. loadtest/SIMULATION.md says how far it is right.
    """
    console = Console()
    try:
        scenario = Scenario(
            traffic,
            rate=rate,
            seconds=60 * minutes,
            mix=ChunkMix.parse(mix),
            factor=factor,
            spike_begins=60 * minutes / 6,
            spike_seconds=60 * spike_minutes,
            callers=_counts(callers),
            trace=trace,
        )
        deployment = values.deployment(values.read([values.CHART, *(chart_values or [])], chart_set or []))
        service_times, starts = _times(times, time or []), _starts(start or [])
        objectives = [parse_objective(text) for text in slo or []]
        if optimise and not objectives:
            raise BadOption("--optimise: say with --slo what must be met, such as --slo p95=2s")
        if plot is not None and plot.suffix not in (".png", ".svg", ".pdf"):
            raise BadOption(f"--plot: {plot}, must end in .png, .svg or .pdf")
        for option, path in (("--plot", plot), ("--summary", summary)):
            if path is not None and not path.absolute().parent.is_dir():
                raise BadOption(f"{option}: there is no directory {path.parent}")
        scenario.load(seed)
    except BadOption as error:
        _misuse(error)

    def run(deployment: Deployment, seed: int = seed) -> Outcome:
        return play(Plan(deployment, scenario.load(seed), service_times, starts, seed=seed))

    prices = Prices(gpu_price, core_price)
    outcome = run(deployment)
    report.show(console, outcome, scenario.load(seed), prices.of(outcome))
    if optimise:
        found = _search(console, deployment, run, objectives, prices)
        report.compare(console, deployment, outcome, found, prices)
        outcome = run(found.deployment)
        checks = [run(found.deployment, seed + more) for more in range(1, _CHECKING_SEEDS + 1)]
        report.checked(console, objectives, checks)
    if plot is not None:
        picture.write(outcome, plot, f"{traffic}: {len(outcome.answers)} videos")
    if summary is not None:
        summary.write_text(json.dumps(outcome.figures(), indent=2) + "\n")
    if not report.verdicts(console, objectives, outcome):
        raise typer.Exit(1)


def _search(
    console: Console,
    deployment: Deployment,
    run: search.Rehearse,
    objectives: list[Objective],
    prices: Prices,
) -> Tried:
    tries = 0
    with console.status("searching") as status:

        def tell(_: Tried, best: Tried) -> None:
            nonlocal tries
            tries += 1
            met = "meets the objectives" if not best.excess else "still misses the objectives"
            status.update(f"{tries} tried; the best {met}, at {best.price:.2f}")

        return search.optimise(deployment, run, objectives, prices, tell)


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
        raise BadOption(f"{option}: {text}, must be NAME=SECONDS with one of {', '.join(known)}")
    return name, number


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise BadOption(f"--callers: {text}, must be whole numbers with commas between them, such as 2,4,8")
    return counts


def _misuse(error: BadOption) -> NoReturn:
    typer.echo(f"rehearse: {error}", err=True)
    raise typer.Exit(2)
