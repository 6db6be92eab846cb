"""Options that several commands share."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import grpc
import typer

from videoanalysis.cli import address, runner
from videoanalysis.stack import bundled_model
from videoanalysis.tls import TlsFiles, channel_credentials

Model = Annotated[
    str | None,
    typer.Option(help="SigLIP checkpoint: a directory or a Hugging Face hub id.", show_default=bundled_model.NAME),
]
Engine = Annotated[
    Literal["siglip", "synthetic"],
    typer.Option(help="synthetic returns made-up embeddings and needs no model: for load tests."),
]


def check_address(text: str | None) -> str | None:
    try:
        return text and address.checked(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        envvar="VIDEOANALYSIS_ADDRESS",
        callback=check_address,
        help="The service. Unset: a local stack is started for this call.",
    ),
]


def parse_time(text: str) -> float:
    """Seconds from 83.5, 83.5s, 1:23.5 or 0:01:23.5."""
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)s?", text)
    if match is None:
        raise typer.BadParameter(f"{text} is not a time; give seconds such as 83.5, or [HH:]MM:SS such as 1:23.5")
    hours, minutes, seconds = match.groups(default="0")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


MinSceneLen = Annotated[
    float | None,
    typer.Option(
        parser=parse_time,
        metavar="TIME",
        help="Minimum length of a scene: a change that comes sooner after its start does not end it.",
        show_default="0",
    ),
]
Output = Annotated[
    Literal["table", "json"],
    typer.Option("--output", "-o", is_eager=True, help="A table for people, or JSON; errors are JSON on stderr then."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Neither progress nor notes: the result and errors alone.")]

Tls = Annotated[bool, typer.Option("--tls", help="Connect with TLS; --ca and --cert do so too.")]
Ca = Annotated[
    Path | None,
    typer.Option(help="CAs of the service's certificate, a PEM file.", show_default="public CAs", dir_okay=False),
]
Cert = Annotated[Path | None, typer.Option(help="Own certificate for the service, a PEM file.", dir_okay=False)]
Key = Annotated[Path | None, typer.Option(help="Private key of --cert, a PEM file.", dir_okay=False)]
TokenFile = Annotated[
    Path | None, typer.Option(help="File with the bearer token for the service, read for every call.", dir_okay=False)
]


def credentials(tls: bool, ca: Path | None, cert: Path | None, key: Path | None) -> grpc.ChannelCredentials | None:
    """None for plaintext."""
    if (cert is None) != (key is None):
        runner.usage_error("--cert and --key belong together")
    if not (tls or ca or cert):
        return None
    try:
        return channel_credentials(TlsFiles(cert, key, ca))
    except ValueError as error:
        runner.usage_error(str(error))


def token(file: Path | None) -> Callable[[], str] | None:
    if file is None:
        return None
    try:
        file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        runner.usage_error(f"--token-file: {error}")
    return lambda: file.read_text().strip()


def check_model(model: str | None, engine: str) -> None:
    if model is not None and engine == "synthetic":
        runner.usage_error("--model: the synthetic engine has none; leave out one of the two")
