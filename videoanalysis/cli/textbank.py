"""`videoanalysis textbank`: builds, checks and shows text banks."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import grpc
import typer
from rich.console import Console

from videoanalysis.atomic_write import write_atomically
from videoanalysis.cli import options, runner, s3
from videoanalysis.client import AsyncClient, Token
from videoanalysis.errors import ServiceError
from videoanalysis.v1.error_reason_pb2 import ErrorReason

if TYPE_CHECKING:
    from videoanalysis.text_bank.format import TextBank

app = typer.Typer(no_args_is_help=True, help="Build, check and show text banks.")

_Template = Annotated[str, typer.Option(help="Template of each text, which replaces {}.")]
# More than the largest valid bank needs; the file is read into memory.
_MAX_BANK_BYTES = 8 << 30
# Covers a new node, an image pull and a large model.
_WAKE_SECONDS = 900.0


@app.command("build")
def build(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Directory with tags.txt and descriptions.txt.", exists=True, file_okay=False
        ),
    ],
    encoder: Annotated[str, typer.Option(help="host:port of an encoder with the model that will embed the videos.")],
    out: Annotated[str, typer.Option(help="File, or s3://bucket/key with the AWS settings of the environment.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the bank in requests.", show_default="name of the directory")
    ] = None,
    template: _Template = "{}",
    model_digest: Annotated[
        str | None, typer.Option(help="Fail if the encoder serves another model, as during a rollout.")
    ] = None,
    wake: Annotated[
        str | None,
        typer.Option(
            help="host:port of an ingress; its sample clip is analysed first, which scales encoders up from zero."
        ),
    ] = None,
    tls: options.Tls = False,
    ca: options.Ca = None,
    cert: options.Cert = None,
    key: options.Key = None,
    token_file: options.TokenFile = None,
    force: Annotated[bool, typer.Option("--force", help="Also write texts that the model cannot distinguish.")] = False,
) -> None:
    """Embed the texts of a directory and write them as a text bank."""
    with runner.require_extra("decoder"):
        from videoanalysis.text_bank import lint as textbank_lint
        from videoanalysis.text_bank.format import InvalidTextBank

    uri = s3.parse_uri(out, "--out") if "://" in out else None
    if uri is None and not Path(out).absolute().parent.is_dir():
        runner.usage_error(f"--out: no such directory: {Path(out).parent}")

    credentials = options.credentials(tls, ca, cert, key)
    if wake is not None:
        runner.run(_wake(wake, credentials, options.token(token_file)))
    embedding = _embed(directory, name or directory.resolve().name, encoder, template, credentials)
    bank = runner.run(embedding, InvalidTextBank)
    if model_digest not in (None, bank.model_digest):
        runner.fail(f"the encoder at {encoder} serves model {bank.model_digest}, not {model_digest}; try again later")
    if not force and (pairs := textbank_lint.same_embeddings(bank)):
        runner.fail(
            f"the model cannot distinguish some texts of {directory}; reword them, or build the bank anyway with "
            + "\n  ".join(["--force:", *map(str, pairs)])
        )

    async def write() -> None:
        if uri is None:
            write_atomically(Path(out), bank.to_bytes())
        else:
            await s3.put(uri, bank.to_bytes())

    runner.run(write())
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
    tls: options.Tls = False,
    ca: options.Ca = None,
    cert: options.Cert = None,
    key: options.Key = None,
) -> None:
    """Find texts that the model cannot distinguish; exits with 1 if there are any."""
    with runner.require_extra("decoder"):
        from videoanalysis.text_bank import builder as bank_builder
        from videoanalysis.text_bank import lint as textbank_lint
        from videoanalysis.text_bank.format import InvalidTextBank

    credentials = options.credentials(tls, ca, cert, key)
    bank: TextBank | None = None
    if not Path(texts).is_dir():
        if encoder is not None:
            runner.usage_error(f"--encoder: {texts} is a bank, which contains its embeddings; leave the option out")
        bank = _read_bank(texts)
    elif encoder is not None:
        bank = runner.run(_embed(Path(texts), "lint", encoder, template, credentials), InvalidTextBank)
    try:
        if bank is not None:
            tags, descriptions = bank.tags, bank.descriptions
        else:
            tags, descriptions = (found.texts for found in bank_builder.read_texts(Path(texts)))
    except InvalidTextBank as error:
        runner.fail(str(error))
    pairs = textbank_lint.same_words(tags, descriptions) + (textbank_lint.same_embeddings(bank) if bank else [])
    for pair in pairs:
        typer.echo(pair)
    for hint in textbank_lint.hints(tags, descriptions):
        typer.echo(f"hint: {hint}")
    if pairs:
        runner.fail(f"{texts}: some texts cannot be distinguished; reword them, or keep one of each pair")
    not_compared = "" if bank else "; their embeddings were not compared: give --encoder HOST:PORT for that"
    typer.echo(f"{texts}: {len(tags)} tags and {len(descriptions)} descriptions, all distinct{not_compared}")


@app.command("show")
def show(
    bank: Annotated[str, typer.Argument(metavar="BANK", help="A file, or s3://bucket/key.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show the texts and the origin of a bank."""
    with runner.require_extra("decoder"):
        from videoanalysis.cli import text_bank_table

    found = _read_bank(bank)
    if as_json:
        typer.echo(text_bank_table.as_json(found))
    else:
        text_bank_table.show(Console(), found)


async def _wake(ingress: str, credentials: grpc.ChannelCredentials | None, token: Token | None) -> None:
    """Returns once an encoder is running. Demand at an ingress is the only signal that scales encoders up from zero."""
    async with AsyncClient(ingress, credentials=credentials, token=token, attempts=1) as client:
        try:
            await client.analyze("sample://clip", timeout_seconds=_WAKE_SECONDS)
        except ServiceError as error:
            # The ingress looks the bank up after an encoder has reported its model; the bank is not built yet.
            if error.reason not in (ErrorReason.BANK_NOT_READY, ErrorReason.BANK_MODEL_MISMATCH):
                raise


async def _embed(
    directory: Path, name: str, encoder: str, template: str, credentials: grpc.ChannelCredentials | None
) -> "TextBank":
    from videoanalysis.channels import connect
    from videoanalysis.text_bank import builder as bank_builder

    async with connect(encoder, credentials=credentials) as channel:
        return await bank_builder.build(directory, name=name, encoder=channel, template=template)


def _read_bank(source: str) -> "TextBank":
    from videoanalysis.text_bank.format import InvalidTextBank, TextBank

    uri = s3.parse_uri(source, "the bank") if "://" in source else None

    async def read() -> bytes:
        return await (asyncio.to_thread(Path(source).read_bytes) if uri is None else s3.get(uri, _MAX_BANK_BYTES))

    try:
        return TextBank.from_bytes(runner.run(read()))
    except InvalidTextBank as error:
        runner.fail(f"{source}: {error}")
