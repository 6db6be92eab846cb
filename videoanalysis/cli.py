"""The command line `videoanalysis`: run the services, analyse a video, make and check text banks, check a model."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, NoReturn, TypeVar

import typer
from google.protobuf import json_format
from rich.console import Console

from videoanalysis import checkout, client, default_model, exports, terminal
from videoanalysis.analysis import Analysis
from videoanalysis.client import AnalysisOptions, AsyncClient
from videoanalysis.errors import InvalidInput, Overloaded, ServiceError, Unavailable
from videoanalysis.files import write_whole
from videoanalysis.scene_list import FRAME_RATES, WRITERS, Footage, FrameRate

if TYPE_CHECKING:
    # What takes long to import, or is not installed with the client, is imported by the commands that need it.
    from videoanalysis.stack import Stack
    from videoanalysis.storage import S3Uri
    from videoanalysis.textbank import TextBank

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Tags, captions and scene changes for any video in S3.",
)
_textbank = typer.Typer(no_args_is_help=True, help="Make and check what videos are compared with.")
app.add_typer(_textbank, name="textbank")
_models = typer.Typer(no_args_is_help=True, help="Check what turns pictures and texts into embeddings.")
app.add_typer(_models, name="model")

_Model = Annotated[
    str | None,
    typer.Option(help="SigLIP checkpoint: a directory or a Hugging Face hub id.", show_default=default_model.NAME),
]
_Engine = Annotated[
    Literal["siglip", "synthetic"], typer.Option(help="synthetic makes embeddings up and needs no model.")
]
_Replicas = Annotated[int, typer.Option(min=1, max=64)]
_Template = Annotated[str, typer.Option(help="Put each text into this in place of {}.")]
# More than a million texts need; it is held in memory.
_MAX_BANK_BYTES = 8 << 30
# The service's, where none is asked for.
_SCENE_THRESHOLD = 0.15

_Result = TypeVar("_Result")


def main() -> None:
    app()


@app.command()
def up(
    model: _Model = None,
    engine: _Engine = "siglip",
    encoders: _Replicas = 1,
    decoders: _Replicas = 1,
    ingresses: _Replicas = 1,
    state: Annotated[
        Path | None,
        typer.Option(help="Write addresses and process ids to this file, as JSON, once all is ready.", dir_okay=False),
    ] = None,
) -> None:
    """Run the services and an S3 server on this machine, until Ctrl-C or SIGTERM.

    The services take their settings, INGRESS_…, ENCODER_… and DECODER_…, from the environment.
    """
    _check_model(model, engine)
    if state is not None and not state.absolute().parent.is_dir():
        _misuse(f"--state: there is no directory {state.parent}")
    with _extra("stack"):
        from videoanalysis.stack import Stack, StackError

    async def run() -> None:
        async with AsyncExitStack() as leaving:
            with terminal.Activity(Console(stderr=True)) as activity:
                stack = Stack(
                    model=model,
                    engine=engine,
                    encoders=encoders,
                    decoders=decoders,
                    ingresses=ingresses,
                    on_step=activity.say,
                )
                await leaving.enter_async_context(stack)
            if state is None:
                typer.echo(_how_to_call(stack))
            else:
                leaving.callback(state.unlink, missing_ok=True)
                write_whole(state, json.dumps(_state(stack), indent=2).encode())
            await stack.guard(asyncio.Event().wait())

    # By SIGTERM a supervisor ends what has done its work.
    _run(run(), StackError, exit_code_of_sigterm=0)


@app.command()
def analyze(
    video: Annotated[
        str, typer.Argument(metavar="VIDEO", help="A file, or a URI that the service can read, such as sample://clip.")
    ],
    address: Annotated[
        str | None, typer.Option(help="host:port of a service. Without it one is started for this video.")
    ] = None,
    upload: Annotated[
        str | None,
        typer.Option(help="First put the file at this s3://bucket/key, by the AWS settings of the environment."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the response as protobuf JSON.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Write the result to this file, as one HTML page that loads nothing.", dir_okay=False),
    ] = None,
    scenes: Annotated[
        list[Path] | None,
        typer.Option(
            help="Write the scenes to this file: .csv, .edl (CMX3600) or .otio; may be repeated.", dir_okay=False
        ),
    ] = None,
    frame_rate: Annotated[
        FrameRate, typer.Option(help="Of EDL and OTIO: the video's own, or that of the edit they are for.")
    ] = "25",
    label: Annotated[
        list[str] | None, typer.Option(help="Choose tags from these, not from the bank's; may be repeated.")
    ] = None,
    text_bank: Annotated[str | None, typer.Option(help="Name of the text bank.", show_default="default")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, max=100, help="Tags to return.", show_default="5")] = None,
    frames_per_chunk: Annotated[int | None, typer.Option(min=1, max=64, show_default="16")] = None,
    chunk_duration: Annotated[
        float | None, typer.Option(min=1, max=600, help="Seconds in a chunk.", show_default="10")
    ] = None,
    scene_threshold: Annotated[
        float | None,
        typer.Option(min=0, max=2, help="Score from which a frame is a scene change.", show_default="0.15"),
    ] = None,
    min_probability: Annotated[
        float | None, typer.Option(min=0, max=1, help="Leave out tags below it.", show_default="none is left out")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds for the call.")] = client.TIMEOUT_SECONDS,
    model: _Model = None,
    engine: _Engine = "siglip",
) -> None:
    """Show tags, caption, scene changes and timings of one video."""
    _check_model(model, engine)
    path = None if "://" in video else Path(video)
    if path is not None and not path.is_file():
        _misuse(f"there is no file {video}")
    scenes = scenes or []
    _check_written(report, scenes)
    options = AnalysisOptions(
        labels=label,
        text_bank=text_bank,
        top_k_tags=top_k,
        frames_per_chunk=frames_per_chunk,
        chunk_duration_seconds=chunk_duration,
        scene_threshold=scene_threshold,
        min_probability=min_probability,
        include_scene_scores=report is not None,
    )
    stderr = Console(stderr=True)
    # Programs want errors there, people also what is going on.
    activity = terminal.Activity(Console(quiet=True) if as_json and not stderr.is_terminal else stderr)
    call = _Call(options, timeout, activity)
    if address is not None:
        if model is not None or engine != "siglip":
            _misuse("--model and --engine are for a stack of your own, not for the service at --address")
        analysis = _analyze_there(address, path or video, upload, call)
    elif upload is not None:
        _misuse("--upload: without --address the file goes into the bucket of a stack of your own")
    elif video.startswith("s3://"):
        _misuse(f"{video}: name the service that can read it with --address HOST:PORT")
    else:
        with _extra("stack"):
            from videoanalysis.stack import Stack, StackError

        stack = Stack(model=model, engine=engine, on_step=activity.say)
        analysis = _run(_analyze_here(stack, path or video, call), StackError)
    if as_json:
        typer.echo(json_format.MessageToJson(analysis.message))
        if caveat := default_model.caveat(analysis.message.model):
            typer.echo(caveat, err=True)
    else:
        terminal.show(Console(), video, analysis)

    async def write() -> None:
        footage = _footage(video, path, frame_rate)
        for file in scenes:
            exports.write_scenes(file, analysis, footage)
        if report is not None:
            with activity:
                activity.say("drawing the report")
                threshold = scene_threshold or _SCENE_THRESHOLD
                await exports.write_report(report, analysis, footage.name, path, threshold)

    _run(write())
    if not as_json:
        for file in [*scenes, *([report] if report else [])]:
            typer.echo(f"Written: {file}")


@_textbank.command("build")
def build_textbank(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Holds tags.txt and descriptions.txt.", exists=True, file_okay=False)
    ],
    encoder: Annotated[str, typer.Option(help="host:port of an encoder with the model that will embed the videos.")],
    out: Annotated[str, typer.Option(help="File, or s3://bucket/key by the AWS settings of the environment.")],
    name: Annotated[
        str | None, typer.Option(help="What requests call the bank.", show_default="the directory's name")
    ] = None,
    template: _Template = "{}",
    force: Annotated[bool, typer.Option("--force", help="Also write texts that the model cannot tell apart.")] = False,
) -> None:
    """Embed the texts of a directory and write them as a bank."""
    with _extra("decoder"):
        from videoanalysis import textbank_lint
        from videoanalysis.textbank import InvalidTextBank

    uri = _s3_uri(out, "--out") if "://" in out else None
    if uri is None and not Path(out).absolute().parent.is_dir():
        _misuse(f"--out: there is no directory {Path(out).parent}")

    bank = _run(_embed(directory, name or directory.resolve().name, encoder, template), InvalidTextBank)
    if not force and (pairs := textbank_lint.same_embeddings(bank)):
        _fail(
            f"the model cannot tell apart some texts of {directory}; reword them, or build the bank all the same with "
            + "\n  ".join(["--force:", *map(str, pairs)])
        )

    async def write() -> None:
        if uri is None:
            write_whole(Path(out), bank.to_bytes())
        else:
            await _put(uri, bank.to_bytes())

    _run(write())
    typer.echo(
        f"{out}: bank {bank.name} of {len(bank.tags)} tags and {len(bank.descriptions)} descriptions, "
        f"model {bank.model_digest}, digest {bank.digest}"
    )


@_textbank.command("lint")
def lint_textbank(
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
    with _extra("decoder"):
        from videoanalysis import bank_builder, textbank_lint
        from videoanalysis.textbank import InvalidTextBank

    bank: TextBank | None = None
    if not Path(texts).is_dir():
        if encoder is not None:
            _misuse(f"--encoder: {texts} is no directory, and a bank brings its embeddings")
        bank = _read_bank(texts)
    elif encoder is not None:
        bank = _run(_embed(Path(texts), "lint", encoder, template), InvalidTextBank)
    try:
        tags, descriptions = (bank.tags, bank.descriptions) if bank else bank_builder.read_texts(Path(texts))
    except InvalidTextBank as error:
        _fail(str(error))
    pairs = textbank_lint.same_words(tags, descriptions) + (textbank_lint.same_embeddings(bank) if bank else [])
    for pair in pairs:
        typer.echo(pair)
    for hint in textbank_lint.hints(tags, descriptions):
        typer.echo(f"hint: {hint}")
    if pairs:
        _fail(f"{texts}: texts that cannot be told apart; reword them, or keep one of each pair")
    unknown = "" if bank else "; their embeddings were not compared, which --encoder HOST:PORT would do"
    typer.echo(f"{texts}: {len(tags)} tags and {len(descriptions)} descriptions, no two of them alike{unknown}")


@_textbank.command("show")
def show_textbank(
    bank: Annotated[str, typer.Argument(metavar="BANK", help="A file, or s3://bucket/key.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show what a bank holds, and where it comes from."""
    with _extra("decoder"):
        from videoanalysis import bank_table

    found = _read_bank(bank)
    if as_json:
        typer.echo(bank_table.as_json(found))
    else:
        bank_table.show(Console(), found)


@_models.command("verify")
def verify_model(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A directory or a Hugging Face hub id.", show_default=False)
    ],
    revision: Annotated[str | None, typer.Option(help="Commit of the hub id.")] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option()] = "auto",
    precision: Annotated[Literal["auto", "float32", "bfloat16", "float16"], typer.Option()] = "auto",
) -> None:
    """Check that a SigLIP checkpoint is served as it was trained.

    Tokenizer, preparation of pictures, embeddings, text padding, scale and bias: each beside what transformers itself
    does. Needs memory for the model twice. Exits with 1 if a check failed, with 2 if the model cannot be loaded.
    """
    if problem := checkout.problem():
        _fail(problem)
    options = ["--device", device, "--precision", precision, *(["--revision", revision] if revision else [])]
    # In place of this process, so that signals and the exit code are the check's; not from the directory of the
    # services, so that MODEL means what it means here.
    program = [sys.executable, "-P", "-m", "services.encoder.verify", *options, "--", model]
    path = os.pathsep.join([str(checkout.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.execve(program[0], program, {**os.environ, "PYTHONPATH": path})


@dataclass(frozen=True)
class _Call:
    """What is asked of a service, whichever it is."""

    options: AnalysisOptions
    timeout_seconds: float
    activity: terminal.Activity

    async def to(self, address: str, video_uri: str) -> Analysis:
        async with AsyncClient(address) as service:
            return await service.analyze(
                video_uri,
                on_progress=self.activity.follow,
                on_retry=self.activity.wait,
                timeout_seconds=self.timeout_seconds,
                **self.options,
            )


async def _analyze_here(stack: "Stack", video: Path | str, call: _Call) -> Analysis:
    """A file, or what the services of a stack can read."""
    with call.activity:
        async with stack:
            if isinstance(video, Path):
                call.activity.say("putting the video into a bucket")
                video = await stack.upload(video)
            call.activity.say(f"calling the ingress at {stack.address}")
            analysis = await stack.guard(call.to(stack.address, video))
            call.activity.say("stopping")
        return analysis


def _analyze_there(address: str, video: Path | str, upload: str | None, call: _Call) -> Analysis:
    """A file by way of `upload`, or what the service can read."""
    if isinstance(video, Path) and upload is None:
        _misuse(
            f"{video} lies on this machine, where the service at {address} cannot read it; "
            "put it where it can with --upload s3://bucket/key"
        )
    if isinstance(video, str) and upload is not None:
        _misuse(f"--upload: {video} is not a file of this machine")
    uri = _s3_uri(upload, "--upload") if upload is not None else None

    async def run() -> Analysis:
        with call.activity:
            if isinstance(video, Path) and uri is not None:
                call.activity.say("uploading")
                with await asyncio.to_thread(video.open, "rb") as file:
                    await _put(uri, file)
            try:
                return await call.to(address, str(uri or video))
            except Unavailable as error:
                if error.reason != Unavailable.default_reason:
                    raise
                # Not the service's own words.
                raise Unavailable(f"no answer from {address}: {error.message}") from error

    return _run(run())


def _footage(video: str, path: Path | None, frame_rate: FrameRate) -> Footage:
    rate = FRAME_RATES[frame_rate]
    if path is not None:
        return Footage(path.name, path.absolute().as_uri(), rate)
    return Footage(video.rpartition("/")[2] or video, video, rate)


def _check_written(report: Path | None, scenes: list[Path]) -> None:
    for option, path in [*([("--report", report)] if report else []), *(("--scenes", path) for path in scenes)]:
        if not path.absolute().parent.is_dir():
            _misuse(f"{option}: there is no directory {path.parent}")
    for path in scenes:
        if path.suffix.lower() not in WRITERS:
            _misuse(f"--scenes: {path} ends in none of {', '.join(WRITERS)}")


async def _embed(directory: Path, name: str, encoder: str, template: str) -> "TextBank":
    from videoanalysis import bank_builder
    from videoanalysis.channels import connect

    async with connect(encoder) as channel:
        return await bank_builder.build(directory, name=name, encoder=channel, template=template)


def _read_bank(source: str) -> "TextBank":
    from videoanalysis.textbank import InvalidTextBank, TextBank

    uri = _s3_uri(source, "the bank") if "://" in source else None

    async def read() -> bytes:
        if uri is None:
            return await asyncio.to_thread(Path(source).read_bytes)
        from videoanalysis.storage import Storage

        async with Storage.open() as storage:
            return await storage.read(uri, _MAX_BANK_BYTES)

    try:
        return TextBank.from_bytes(_run(read()))
    except InvalidTextBank as error:
        _fail(f"{source}: {error}")


async def _put(uri: "S3Uri", data: bytes | BinaryIO) -> None:
    from videoanalysis.storage import Storage

    async with Storage.open() as storage:
        await storage.write(uri, data, "application/octet-stream")


def _s3_uri(text: str, option: str) -> "S3Uri":
    with _extra("ingress"):
        from videoanalysis.storage import S3Uri

    try:
        return S3Uri.parse(text, option)
    except InvalidInput as error:
        _misuse(error.message)


def _check_model(model: str | None, engine: str) -> None:
    if model is not None and engine == "synthetic":
        _misuse("--model: the synthetic engine has none")


def _state(stack: "Stack") -> dict[str, object]:
    services: dict[str, object] = {
        kind: [{"address": child.address, "pid": child.pid} for child in children]
        for kind, children in stack.services.items()
    }
    return {"address": stack.address, "s3_endpoint": stack.s3_endpoint, **services}


def _how_to_call(stack: "Stack") -> str:
    from videoanalysis.stack import BUCKET, CREDENTIALS, REGION

    access_key, secret = CREDENTIALS
    paragraphs = [
        f"Listening on {stack.address}, until Ctrl-C.",
        default_model.caveat(stack.model) or f"The model is {stack.model.model_id}.",
        "The clip that the service carries:",
        f"  videoanalysis analyze sample://clip --address {stack.address}",
        "A video of yours, by way of the S3 server beside it:",
        f"  export AWS_ENDPOINT_URL={stack.s3_endpoint} AWS_DEFAULT_REGION={REGION}\n"
        f"  export AWS_ACCESS_KEY_ID={access_key} AWS_SECRET_ACCESS_KEY={secret}\n"
        f"  videoanalysis analyze VIDEO --address {stack.address} --upload s3://{BUCKET}/videos/VIDEO",
    ]
    return "\n\n".join(paragraphs)


def _run(
    work: Coroutine[Any, Any, _Result],
    expected: type[Exception] = ServiceError,
    *,
    exit_code_of_sigterm: int = 128 + signal.SIGTERM,
) -> _Result:
    """The result of `work`. Told to end, it is cancelled; told again, also what it does to end well.

    Errors of services, files and the `expected` kind end the process with exit code 1 and their message.
    """
    exit_codes = {signal.SIGINT: 128 + signal.SIGINT, signal.SIGTERM: exit_code_of_sigterm}
    signals: list[signal.Signals] = []

    async def interruptible() -> _Result:
        task = asyncio.current_task()
        assert task is not None

        def interrupt(signum: signal.Signals) -> None:
            signals.append(signum)
            task.cancel()

        for signum in exit_codes:
            asyncio.get_running_loop().add_signal_handler(signum, interrupt, signum)
        return await work

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError:
        raise typer.Exit(exit_codes[signals[0]]) from None
    except Exception as error:
        if not isinstance(error, ServiceError | OSError | expected):
            raise
        again = f"; try again in {error.retry_after_seconds:.0f} s" if isinstance(error, Overloaded) else ""
        _fail(f"{error}{again}")


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """For imports of what comes with an optional part of the installation."""
    try:
        yield
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is not installed; this command needs: pip install 'videoanalysis[{name}]'")


def _misuse(message: str) -> NoReturn:
    _fail(message, exit_code=2)


def _fail(message: str, exit_code: int = 1) -> NoReturn:
    typer.secho("error: ", fg="red", nl=False, err=True)
    typer.echo(message, err=True)
    raise typer.Exit(exit_code)
