"""`python -m loadtest report`: the HTML report of a run."""

from pathlib import Path
from typing import Annotated

import typer

from loadtest.errors import InvalidRun
from loadtest.report import page
from loadtest.sweep.run import Run
from videoanalysis.cli.failure import Failure


def report(
    run: Annotated[Path, typer.Argument(help="Directory of a sweep.", file_okay=False)],
    against: Annotated[Path | None, typer.Option(help="An earlier run to compare with.", file_okay=False)] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory for the page and the PNGs.", file_okay=False, show_default="RUN")
    ] = None,
) -> None:
    """Write the report of a run: one HTML page that loads nothing, and each chart as PNG."""
    try:
        written = page.write(Run.read(run), Run.read(against) if against else None, out)
    except (InvalidRun, OSError) as error:
        raise Failure(str(error)) from error
    typer.echo(f"Written: {written}")
