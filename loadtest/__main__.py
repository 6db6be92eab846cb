"""`python -m loadtest`: put the service under load, report what was measured, rehearse its autoscaling."""

import typer

from loadtest.baseline import command as original_command
from loadtest.report import page as report
from loadtest.simulate.command import rehearse
from loadtest.sweep.command import sweep

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Load tests of the video analysis service.",
)
app.command()(sweep)
app.command(name="report")(report.command)
app.command(name="original")(original_command.command)
app.command()(rehearse)


if __name__ == "__main__":
    app()
