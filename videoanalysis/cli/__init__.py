"""The command line `videoanalysis`: run the services, analyse a video, make and check text banks, check a model."""

import typer

from videoanalysis.cli import analyze, model, textbank, up

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Tags, captions and scene changes for any video in S3.",
)
app.command()(up.up)
app.command()(analyze.analyze)
app.add_typer(textbank.app, name="textbank")
app.add_typer(model.app, name="model")


def main() -> None:
    app()
