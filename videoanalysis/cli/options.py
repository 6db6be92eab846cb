"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Any, Literal

import grpc
import typer
from typer.core import TyperCommand

from videoanalysis import client
from videoanalysis.cli import runner
from videoanalysis.stack import bundled_model
from videoanalysis.tls import TlsFiles, channel_credentials

Address = Annotated[
    str | None, typer.Option(help="host:port of a service. Unset: a local stack is started for this call.")
]
Model = Annotated[
    str | None,
    typer.Option(help="SigLIP checkpoint: a directory or a Hugging Face hub id.", show_default=bundled_model.NAME),
]
Engine = Annotated[
    Literal["siglip", "synthetic"],
    typer.Option(help="synthetic returns made-up embeddings and needs no model: for load tests."),
]


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


def token(file: Path | None) -> client.Token | None:
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


class Command(TyperCommand):
    """A command whose text values must be valid UTF-8; paths may be any bytes."""

    def invoke(self, ctx: Any) -> Any:
        for parameter in self.params:
            value = ctx.params.get(parameter.name)
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str) and not _is_utf8(text):
                    name = parameter.metavar if parameter.param_type_name == "argument" else parameter.opts[0]
                    runner.usage_error(f"{name}: holds bytes that are not valid UTF-8")
        return super().invoke(ctx)


def _is_utf8(text: str) -> bool:
    """Bytes of the command line that are not valid UTF-8 arrive as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
