"""`python -m loadtest original`: the original's load test again, with encoders that take its time on an L4, scaled."""

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.bad_option import BadOption
from loadtest.baseline import published as original
from loadtest.report import comparison
from loadtest.sweep.command import new_directory, take
from loadtest.sweep.levels import parse_levels
from loadtest.sweep.load import Length
from loadtest.sweep.measurement import Measurement
from loadtest.sweep.mix import parse_rendered
from loadtest.sweep.slo import parse_objective
from loadtest.sweep.sweep import Plan
from loadtest.target.local_stack import StackOptions
from videoanalysis.cli import ending

_CONCURRENCIES = ",".join(str(row.concurrency) for row in original.PUBLISHED)
_WIDTH = 160


def command(
    factor: Annotated[
        float, typer.Option(min=0.01, max=100, help="An encoder takes so many times the original's 700 ms for a chunk.")
    ] = 8,
    concurrency: Annotated[str, typer.Option(help="Callers at a time, a level each.", metavar="LIST")] = _CONCURRENCIES,
    duration: Annotated[float, typer.Option(min=1, max=86_400, help="Seconds in which a level sends.")] = 180,
    encoders: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="One at a time each.", show_default="as many as the most callers"),
    ] = None,
    ingresses: Annotated[int, typer.Option(min=1, max=64)] = 2,
    decoders: Annotated[int, typer.Option(min=1, max=64)] = 2,
    image_size: Annotated[int, typer.Option(min=16, max=1024, help="A small one costs less CPU.")] = 64,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory for the run.", file_okay=False, show_default="build/loadtest/TIME"),
    ] = None,
    report: Annotated[bool, typer.Option(help="Draw the report at the end.")] = True,
) -> None:
    """Run the original's load test on this machine and lay the figures beside its published ones.

    A closed loop over an 8.27 s clip of one chunk. The GPU is simulated: an encoder sleeps for the original's time on
    an L4, times a factor that is large enough to leave the CPU of this machine under 60 %. Ends as `sweep` does, with 3
    if a request failed.
    """
    try:
        levels = parse_levels(concurrency, "", "poisson")
        most = int(max(level.value for level in levels))
        measurement = Measurement(
            plan=Plan(levels=levels, length=Length(duration)),
            wanted=parse_rendered("1"),
            addresses=[],
            stack=StackOptions(
                ingresses=ingresses,
                encoders=encoders or most,
                decoders=decoders,
                service_ms=original.CHUNK_MS * factor,
                image_size=image_size,
                # Nobody waits for a place: the original had up to 64 ingresses.
                max_videos=-(-most // ingresses),
            ),
            connections=4,
            method="unary",
            timeout_seconds=300,
            caller=None,
            sources=[],
            objectives=[parse_objective("errors=0")],
            directory=new_directory(out),
        )
    except BadOption as error:
        ending.misuse(str(error))
    run = take(measurement, None, report=report)
    console = Console(width=_WIDTH)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for index, column in enumerate((*comparison.COLUMNS, *comparison.OWN_COLUMNS)):
        table.add_column(column, justify="right" if index != 1 else "left")
    for line in comparison.lines(run):
        table.add_row(*line.cells, style="bold" if line.is_ours else "dim")
    console.print(table)
    for said in comparison.caveats(run):
        console.print(Text(said, "yellow"))
