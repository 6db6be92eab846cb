"""The command line `videoanalysis`, for callers and operators of the services."""

import typer

from videoanalysis.cli import analyze, download_samples, model, options, redecode, scale, selftest, textbank, up

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Tags, captions and scene changes for any video in S3.",
)
app.command(cls=options.Command)(up.up)
app.command(cls=options.Command)(analyze.analyze)
app.command(cls=options.Command)(redecode.redecode)
app.command(cls=options.Command)(selftest.selftest)
app.command(cls=options.Command)(download_samples.download_samples)
app.add_typer(textbank.app, name="textbank")
app.add_typer(model.app, name="model")
app.add_typer(scale.app, name="scale")


def main() -> None:
    app()
