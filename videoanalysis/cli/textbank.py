"""`videoanalysis textbank`: make and check what videos are compared with."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from videoanalysis.atomic_write import write_whole
from videoanalysis.cli import ending, objects
from videoanalysis.errors import ServiceError
from videoanalysis.v1.error_reason_pb2 import ErrorReason

if TYPE_CHECKING:
    from videoanalysis.text_bank.format import TextBank

app = typer.Typer(no_args_is_help=True, help="Make and check what videos are compared with.")

_Template = Annotated[str, typer.Option(help="Put each text into this in place of {}.")]
# More than a million texts need; it is held in memory.
_MAX_BANK_BYTES = 8 << 30
# A new node, an image and a large model.
_WAKE_SECONDS = 900.0


@app.command("build")
def build(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Holds tags.txt and descriptions.txt.", exists=True, file_okay=False)
    ],
    encoder: Annotated[str, typer.Option(help="host:port of an encoder with the model that will embed the videos.")],
    out: Annotated[str, typer.Option(help="File, or s3://bucket/key by the AWS settings of the environment.")],
    name: Annotated[
        str | None, typer.Option(help="What requests call the bank.", show_default="the directory's name")
    ] = None,
    template: _Template = "{}",
    model_digest: Annotated[
        str | None, typer.Option(help="Write nothing if the encoder has another model, as in the middle of a rollout.")
    ] = None,
    wake: Annotated[
        str | None,
        typer.Option(help="host:port of an ingress that analyses its sample first: it wakes an encoder at zero."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also write texts that the model cannot tell apart.")] = False,
) -> None:
    """Embed the texts of a directory and write them as a bank."""
    with ending.extra("decoder"):
        from videoanalysis.text_bank import lint as textbank_lint
        from videoanalysis.text_bank.format import InvalidTextBank

    uri = objects.s3_uri(out, "--out") if "://" in out else None
    if uri is None and not Path(out).absolute().parent.is_dir():
        ending.misuse(f"--out: there is no directory {Path(out).parent}")

    if wake is not None:
        ending.run(_wake(wake))
    bank = ending.run(_embed(directory, name or directory.resolve().name, encoder, template), InvalidTextBank)
    if model_digest not in (None, bank.model_digest):
        ending.fail(f"the encoder at {encoder} has the model {bank.model_digest}, not {model_digest}; try again later")
    if not force and (pairs := textbank_lint.same_embeddings(bank)):
        ending.fail(
            f"the model cannot tell apart some texts of {directory}; reword them, or build the bank all the same with "
            + "\n  ".join(["--force:", *map(str, pairs)])
        )

    async def write() -> None:
        if uri is None:
            write_whole(Path(out), bank.to_bytes())
        else:
            await objects.put(uri, bank.to_bytes())

    ending.run(write())
    typer.echo(
        f"{out}: bank {bank.name} of {len(bank.tags)} tags and {len(bank.descriptions)} descriptions, "
        f"model {bank.model_digest}, digest {bank.digest}"
    )


@app.command("lint")
def lint(
    texts: Annotated[
        str,
        typer.Argument(metavar="TEXTS", help="A directory, or a bank: a file or s3://bucket/key.", show_default=False),
    ],
    encoder: Annotated[
        str | None, typer.Option(help="host:port of an encoder, to compare the embeddings of a directory's texts.")
    ] = None,
    template: _Template = "{}",
) -> None:
    """Find texts that cannot be told apart; exits with 1 if there are any."""
    with ending.extra("decoder"):
        from videoanalysis.text_bank import builder as bank_builder
        from videoanalysis.text_bank import lint as textbank_lint
        from videoanalysis.text_bank.format import InvalidTextBank

    bank: TextBank | None = None
    if not Path(texts).is_dir():
        if encoder is not None:
            ending.misuse(f"--encoder: {texts} is no directory, and a bank brings its embeddings")
        bank = _read_bank(texts)
    elif encoder is not None:
        bank = ending.run(_embed(Path(texts), "lint", encoder, template), InvalidTextBank)
    try:
        tags, descriptions = (bank.tags, bank.descriptions) if bank else bank_builder.read_texts(Path(texts))
    except InvalidTextBank as error:
        ending.fail(str(error))
    pairs = textbank_lint.same_words(tags, descriptions) + (textbank_lint.same_embeddings(bank) if bank else [])
    for pair in pairs:
        typer.echo(pair)
    for hint in textbank_lint.hints(tags, descriptions):
        typer.echo(f"hint: {hint}")
    if pairs:
        ending.fail(f"{texts}: texts that cannot be told apart; reword them, or keep one of each pair")
    unknown = "" if bank else "; their embeddings were not compared, which --encoder HOST:PORT would do"
    typer.echo(f"{texts}: {len(tags)} tags and {len(descriptions)} descriptions, no two of them alike{unknown}")


@app.command("show")
def show(
    bank: Annotated[str, typer.Argument(metavar="BANK", help="A file, or s3://bucket/key.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show what a bank holds, and where it comes from."""
    with ending.extra("decoder"):
        from videoanalysis.text_bank import table as bank_table

    found = _read_bank(bank)
    if as_json:
        typer.echo(bank_table.as_json(found))
    else:
        bank_table.show(Console(), found)


async def _wake(ingress: str) -> None:
    """Returns when there is an encoder. Nobody but an ingress can tell the autoscaler that one is needed."""
    from videoanalysis.client import AsyncClient

    async with AsyncClient(ingress, attempts=1) as client:
        try:
            await client.analyze("sample://clip", timeout_seconds=_WAKE_SECONDS)
        except ServiceError as error:
            # The ingress asks for the bank, which is yet to be built, when an encoder has told its model.
            if error.reason not in (ErrorReason.BANK_NOT_READY, ErrorReason.BANK_MODEL_MISMATCH):
                raise


async def _embed(directory: Path, name: str, encoder: str, template: str) -> "TextBank":
    from videoanalysis.channels import connect
    from videoanalysis.text_bank import builder as bank_builder

    async with connect(encoder) as channel:
        return await bank_builder.build(directory, name=name, encoder=channel, template=template)


def _read_bank(source: str) -> "TextBank":
    from videoanalysis.text_bank.format import InvalidTextBank, TextBank

    uri = objects.s3_uri(source, "the bank") if "://" in source else None

    async def read() -> bytes:
        if uri is None:
            return await asyncio.to_thread(Path(source).read_bytes)
        from videoanalysis.storage import Storage

        async with Storage.open() as storage:
            return await storage.read(uri, _MAX_BANK_BYTES)

    try:
        return TextBank.from_bytes(ending.run(read()))
    except InvalidTextBank as error:
        ending.fail(f"{source}: {error}")
