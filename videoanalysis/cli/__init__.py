"""The command line `videoanalysis`, for callers and operators of the services."""

import typer

from videoanalysis.cli import analyze, model, scale, selftest, textbank, up

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Tags, captions and scene changes for any video in S3.",
)
app.command()(up.up)
app.command()(analyze.analyze)
app.command()(selftest.selftest)
app.add_typer(textbank.app, name="textbank")
app.add_typer(model.app, name="model")
app.add_typer(scale.app, name="scale")


def main() -> None:
    app()
