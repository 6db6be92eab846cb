"""`python -m loadtest baseline`: the baseline's load test with simulated GPUs, compared with its published figures."""

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.baseline import comparison, published
from loadtest.cli.sweep import measure, new_directory
from loadtest.errors import InvalidOption
from loadtest.sweep.levels import parse_levels
from loadtest.sweep.load import Length
from loadtest.sweep.measurement import Measurement
from loadtest.sweep.mix import parse_rendered
from loadtest.sweep.slo import parse_objective
from loadtest.sweep.sweep import Plan
from loadtest.target.access import Access
from loadtest.target.local_stack import StackOptions
from videoanalysis.cli import runner

_CONCURRENCIES = ",".join(str(row.concurrency) for row in published.ROWS)
_WIDTH = 160


def baseline(
    factor: Annotated[
        float, typer.Option(min=0.01, max=100, help="An encoder's time for a chunk, in units of the baseline's 700 ms.")
    ] = 8,
    concurrency: Annotated[
        str, typer.Option(help="Concurrent callers of each level.", metavar="LIST")
    ] = _CONCURRENCIES,
    duration: Annotated[
        float, typer.Option(min=1, max=86_400, help="Seconds during which a level sends requests.")
    ] = 180,
    encoders: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Encoder processes.", show_default="as many as the highest concurrency"),
    ] = None,
    ingresses: Annotated[int, typer.Option(min=1, max=64, help="Ingress processes.")] = 2,
    decoders: Annotated[int, typer.Option(min=1, max=64, help="Decoder processes.")] = 2,
    image_size: Annotated[int, typer.Option(min=16, max=1024, help="Image size of the encoders.")] = 64,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory of the run.", file_okay=False, show_default="build/loadtest/TIME"),
    ] = None,
    report: Annotated[bool, typer.Option(help="Write the HTML report.")] = True,
) -> None:
    """Run the load test of the Ray Serve baseline on this machine and compare it with the published figures.

    A closed loop over an 8.27 s clip of one chunk. The GPU is simulated: an encoder sleeps for the baseline's time on
    an L4, times a factor large enough to keep the CPU of this machine below 60 %. Exit codes are those of `sweep`; any
    failed request misses the objective.
    """
    try:
        levels = parse_levels(concurrency, "", "poisson")
        callers = int(max(level.value for level in levels))
        measurement = Measurement(
            plan=Plan(levels=levels, length=Length(duration)),
            wanted=parse_rendered("1"),
            addresses=[],
            stack=StackOptions(
                ingresses=ingresses,
                encoders=encoders or callers,
                decoders=decoders,
                service_ms=published.CHUNK_MS * factor,
                image_size=image_size,
                # No request waits for a slot at an ingress: the baseline had up to 64 of them.
                max_videos=-(-callers // ingresses),
            ),
            connections=4,
            method="unary",
            timeout_seconds=300,
            access=Access(),
            sources=[],
            objectives=[parse_objective("errors=0")],
            directory=new_directory(out),
        )
    except InvalidOption as error:
        runner.usage_error(str(error))
    run = measure(measurement, report=report)
    console = Console(width=_WIDTH)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for index, column in enumerate(comparison.COLUMNS):
        table.add_column(column, justify="right" if index != 1 else "left")
    for line in comparison.lines(run):
        table.add_row(*line.cells, style="bold" if line.is_ours else "dim")
    console.print(table)
    for caveat in comparison.caveats(run):
        console.print(Text(caveat, "yellow"))
