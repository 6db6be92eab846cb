"""`python -m loadtest`: load tests of the video analysis service and a capacity simulation of its autoscaling."""

import typer

from loadtest.cli.baseline import baseline
from loadtest.cli.report import report
from loadtest.cli.simulate import simulate
from loadtest.cli.sweep import sweep
from videoanalysis.cli.command import CONTEXT, Application, Command

app = typer.Typer(
    cls=Application,
    add_completion=False,
    no_args_is_help=True,
    context_settings=CONTEXT,
    pretty_exceptions_enable=False,
    help="Load tests of the video analysis service.",
)
for command in (sweep, report, baseline, simulate):
    app.command(cls=Command)(command)


if __name__ == "__main__":
    app()
