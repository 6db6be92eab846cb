"""`videoanalysis textbank`: builds, checks and shows text banks."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import grpc
import typer

from videoanalysis.atomic_write import write_atomically
from videoanalysis.call_metadata import Token
from videoanalysis.cli import options, runner, s3, terminal, waiting
from videoanalysis.cli.command import CONTEXT, Command
from videoanalysis.cli.failure import Failure
from videoanalysis.client import AsyncClient
from videoanalysis.errors import ServiceError, Unavailable
from videoanalysis.v1.error_reason_pb2 import ErrorReason

if TYPE_CHECKING:
    from videoanalysis.text_bank.format import TextBank
    from videoanalysis.text_bank.stored_scenes import StoredScenes

_Result = TypeVar("_Result")

app = typer.Typer(no_args_is_help=True, context_settings=CONTEXT, help="Build, check and show text banks.")

_Template = Annotated[str, typer.Option(help="Template of each text, which replaces {}.")]
_Embeddings = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="RESULT",
        help="JSON of a result with embeddings, or a directory of such files; may be repeated.",
        exists=True,
        show_default=False,
    ),
]
_Texts = Annotated[
    str,
    typer.Argument(
        metavar="TEXTS", help="A bank: a file or s3://bucket/key; or a directory of texts.", show_default=False
    ),
]
# More than the largest valid bank needs; the file is read into memory.
_MAX_BANK_BYTES = 8 << 30
# Covers a new node, an image pull and a large model.
_WAKE_SECONDS = 900.0


@app.command("build", cls=Command)
def build(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Directory with tags.txt and descriptions.txt.", exists=True, file_okay=False
        ),
    ],
    encoder: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            callback=options.check_address,
            help="An encoder with the model that will embed the videos.",
        ),
    ],
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
            metavar="HOST:PORT",
            callback=options.check_address,
            help="An ingress; its sample clip is analysed first, which scales encoders up from zero.",
        ),
    ] = None,
    wait: waiting.Wait = 0,
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
    if uri is None:
        runner.check_writable("--out", Path(out))

    credentials = options.credentials(tls, ca, cert, key)

    async def embed() -> "TextBank":
        bank = await _embed(directory, name or directory.resolve().name, encoder, template, credentials)
        if model_digest not in (None, bank.model_digest):
            raise Unavailable(f"it serves model {bank.model_digest}, not {model_digest}; try again later")
        return bank

    async def build_when_ready() -> "TextBank":
        if wake is not None:
            token = options.token(token_file)
            await _until_ready(lambda: _wake(wake, credentials, token), f"the ingress at {wake}", wait)
        return await _until_ready(embed, f"the encoder at {encoder}", wait)

    bank = runner.run(build_when_ready(), InvalidTextBank)
    if not force and (pairs := textbank_lint.same_embeddings(bank)):
        raise Failure(
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


@app.command("lint", cls=Command)
def lint(
    texts: Annotated[
        str,
        typer.Argument(metavar="TEXTS", help="A directory, or a bank: a file or s3://bucket/key.", show_default=False),
    ],
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            callback=options.check_address,
            help="An encoder, to compare the embeddings of a directory's texts.",
        ),
    ] = None,
    template: _Template = "{}",
    embeddings: _Embeddings = None,
    tls: options.Tls = False,
    ca: options.Ca = None,
    cert: options.Cert = None,
    key: options.Key = None,
) -> None:
    """Find texts that the model cannot distinguish; exits with 1 if there are any.

    With --embeddings, also report texts that are the best of every scene, or of none.
    """
    with runner.require_extra("decoder"):
        from videoanalysis.text_bank import builder as bank_builder
        from videoanalysis.text_bank import evaluation
        from videoanalysis.text_bank import lint as textbank_lint
        from videoanalysis.text_bank.format import InvalidTextBank

    credentials = options.credentials(tls, ca, cert, key)
    bank: TextBank | None = None
    if not Path(texts).is_dir() and encoder is not None:
        runner.usage_error(f"--encoder: {texts} is a bank, which contains its embeddings; leave the option out")
    if not Path(texts).is_dir() or encoder is not None:
        bank = _bank(texts, encoder, template, credentials)
    elif embeddings:
        runner.usage_error("--embeddings: the texts of a directory need --encoder HOST:PORT")
    try:
        if bank is not None:
            tags, descriptions = bank.tags, bank.descriptions
        else:
            tags, descriptions = (found.texts for found in bank_builder.read_texts(Path(texts)))
    except InvalidTextBank as error:
        raise Failure(str(error)) from error
    pairs = textbank_lint.same_words(tags, descriptions) + (textbank_lint.same_embeddings(bank) if bank else [])
    for pair in pairs:
        typer.echo(pair)
    for hint in textbank_lint.hints(tags, descriptions):
        typer.echo(f"hint: {hint}")
    if bank is not None and embeddings:
        results = _results(embeddings)
        _check_models([bank], results)
        for found in evaluation.wins(bank, results):
            typer.echo(found)
    if pairs:
        raise Failure(f"{texts}: some texts cannot be distinguished; reword them, or keep one of each pair")
    not_compared = "" if bank else "; their embeddings were not compared: give --encoder HOST:PORT for that"
    typer.echo(f"{texts}: {len(tags)} tags and {len(descriptions)} descriptions, all distinct{not_compared}")


@app.command("diff", cls=Command)
def diff(
    before: _Texts,
    after: _Texts,
    embeddings: _Embeddings = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            callback=options.check_address,
            help="An encoder, to embed the texts of a directory.",
        ),
    ] = None,
    template: _Template = "{}",
    top_k: Annotated[int, typer.Option(min=1, max=100, help="Tags to compare.")] = 5,
    min_probability: Annotated[
        float, typer.Option(min=0, max=1, help="Texts below it, or below their bank's, are not compared.")
    ] = 0.01,
    output: options.Output = "table",
    tls: options.Tls = False,
    ca: options.Ca = None,
    cert: options.Cert = None,
    key: options.Key = None,
) -> None:
    """Show which stored results would change if one text bank replaced another."""
    with runner.require_extra("decoder"):
        from videoanalysis.cli import text_bank_table
        from videoanalysis.text_bank import evaluation

    if not embeddings:
        runner.usage_error("--embeddings: needed, the JSON of a result that was analysed with --embeddings")
    credentials = options.credentials(tls, ca, cert, key)
    for texts in (before, after):
        if Path(texts).is_dir() and encoder is None:
            runner.usage_error(f"{texts}: the texts of a directory need --encoder HOST:PORT")
    old, new = (_bank(texts, encoder, template, credentials) for texts in (before, after))
    results = _results(embeddings)
    _check_models([old, new], results)
    changes = evaluation.changes(old, new, results, top_k=top_k, min_probability=min_probability)
    if output == "json":
        typer.echo(text_bank_table.changes_as_json(changes))
    else:
        text_bank_table.show_changes(changes)


@app.command("show", cls=Command)
def show(
    bank: Annotated[str, typer.Argument(metavar="BANK", help="A file, or s3://bucket/key.", show_default=False)],
    output: options.Output = "table",
) -> None:
    """Show the texts and the origin of a bank."""
    with runner.require_extra("decoder"):
        from videoanalysis.cli import text_bank_table

    found = _read_bank(bank)
    if output == "json":
        typer.echo(text_bank_table.as_json(found))
    else:
        text_bank_table.show(terminal.Output(), found)


async def _until_ready(call: Callable[[], Awaitable[_Result]], what: str, seconds: float) -> _Result:
    async def naming_what() -> _Result:
        try:
            return await call()
        except Unavailable as error:
            raise Unavailable(f"{what}: {error.message}", reason=error.reason) from error

    return await waiting.until_ready(naming_what, seconds, lambda line: typer.echo(line, err=True))


async def _wake(ingress: str, credentials: grpc.ChannelCredentials | None, token: Token | None) -> None:
    """Returns once an encoder is running. Demand at an ingress is the only signal that scales encoders up from zero."""
    async with AsyncClient(ingress, credentials=credentials, token=token, retry_timeout_seconds=0) as client:
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


def _bank(texts: str, encoder: str | None, template: str, credentials: grpc.ChannelCredentials | None) -> "TextBank":
    """A bank, or the texts of a directory, embedded by `encoder`."""
    from videoanalysis.text_bank.format import InvalidTextBank

    if encoder is None or not Path(texts).is_dir():
        return _read_bank(texts)
    name = Path(texts).resolve().name
    return runner.run(_embed(Path(texts), name, encoder, template, credentials), InvalidTextBank)


def _results(paths: list[Path]) -> "list[StoredScenes]":
    from videoanalysis.text_bank.stored_scenes import InvalidResult, read_results

    try:
        return read_results(paths)
    except InvalidResult as error:
        raise Failure(str(error)) from error


def _check_models(banks: "list[TextBank]", results: "list[StoredScenes]") -> None:
    for bank in banks:
        for result in results:
            if result.model_digest != bank.model_digest:
                raise Failure(
                    f"{result.name}: its embeddings are of model {result.model_digest}, "
                    f"bank {bank.name} is of {bank.model_digest}"
                )


def _read_bank(source: str) -> "TextBank":
    from videoanalysis.text_bank.format import InvalidTextBank, TextBank

    uri = s3.parse_uri(source, "the bank") if "://" in source else None

    async def read() -> bytes:
        return await (asyncio.to_thread(Path(source).read_bytes) if uri is None else s3.get(uri, _MAX_BANK_BYTES))

    try:
        return TextBank.from_bytes(runner.run(read()))
    except InvalidTextBank as error:
        raise Failure(f"{source}: {error}") from error
