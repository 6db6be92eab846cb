"""The command line `videoanalysis`, for callers and operators of the services."""

from typing import Annotated, Literal

import typer
from typer.completion import completion_init, get_completion_script  # type: ignore[attr-defined]

from videoanalysis import __version__
from videoanalysis.cli import analyze, download_samples, list_banks, model, redecode, scale, selftest, textbank, up
from videoanalysis.cli.command import CONTEXT, Application, Command
from videoanalysis.cli.exit_code import ExitCode

app = typer.Typer(
    cls=Application,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
    invoke_without_command=True,
)
app.command(cls=Command)(up.up)
app.command(cls=Command)(analyze.analyze)
app.command(cls=Command)(redecode.redecode)
app.command(cls=Command)(list_banks.list_banks)
app.command(cls=Command)(selftest.selftest)
app.command(cls=Command)(download_samples.download_samples)
app.add_typer(textbank.app, name="textbank")
app.add_typer(model.app, name="model")
app.add_typer(scale.app, name="scale")


@app.callback()
def videoanalysis(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False
) -> None:
    """Tags, captions and scene changes for any video in S3."""
    if version:
        typer.echo(f"videoanalysis {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(ExitCode.USAGE)


@app.command(cls=Command)
def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print a script that completes commands, options and values in a shell.

    Bash and zsh: source <(videoanalysis completion bash). Fish: videoanalysis completion fish | source.
    """
    typer.echo(get_completion_script(prog_name="videoanalysis", complete_var="_VIDEOANALYSIS_COMPLETE", shell=shell))


def main() -> None:
    completion_init()
    app()
