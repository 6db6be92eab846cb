"""`videoanalysis up`: runs the services and an S3 server on this machine."""

import asyncio
import json
import socket
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from videoanalysis.atomic_write import write_atomically
from videoanalysis.cli import options, runner, terminal
from videoanalysis.cli.exit_code import ExitCode
from videoanalysis.stack import bundled_model

if TYPE_CHECKING:
    # Commands import slow modules, and those that the client does not install, when they need them.
    from videoanalysis.stack.stack import Stack

_Replicas = Annotated[int, typer.Option(min=1, max=64, help="Processes of this service.")]


def up(
    model: options.Model = None,
    engine: options.Engine = "siglip",
    encoders: _Replicas = 1,
    decoders: _Replicas = 1,
    ingresses: _Replicas = 1,
    port: Annotated[
        int,
        typer.Option(
            min=0,
            max=65535,
            help="Port of the first ingress; further ones use the next ports.",
            show_default="the system chooses",
        ),
    ] = 0,
    tls: Annotated[
        bool, typer.Option("--tls", help="Use TLS between the services and to callers, by a throw-away CA.")
    ] = False,
    state: Annotated[
        Path | None,
        typer.Option(help="Write addresses and process ids to this file, as JSON, once all is ready.", dir_okay=False),
    ] = None,
) -> None:
    """Run the services and an S3 server on this machine, until Ctrl-C, SIGTERM or SIGHUP.

    The services take their settings, INGRESS_…, ENCODER_… and DECODER_…, from the environment, but for those that
    connect them with each other.
    """
    options.check_model(model, engine)
    if state is not None:
        runner.check_writable("--state", state)
    for used in range(port, port + ingresses if port else port):
        _check_free(used)
    with runner.require_stack():
        from videoanalysis.stack.stack import Stack, StackError

    async def run() -> None:
        async with AsyncExitStack() as leaving:
            with terminal.Activity(Console(stderr=True)) as activity:
                stack = Stack(
                    model=model,
                    engine=engine,
                    encoders=encoders,
                    decoders=decoders,
                    ingresses=ingresses,
                    tls=tls,
                    port=port,
                    on_step=activity.show_step,
                )
                await leaving.enter_async_context(stack)
            if state is None:
                typer.echo(_instructions(stack))
            else:
                content = json.dumps(_state(stack), indent=2).encode()
                leaving.callback(_remove, state, content)
                write_atomically(state, content)
            await stack.guard(asyncio.Event().wait())

    # A supervisor stops a stack with SIGTERM: that is no failure.
    runner.run(run(), StackError, exit_code_of_sigterm=ExitCode.OK)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        # As the services do.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            runner.usage_error(f"--port: {port} cannot be used: {error}")


def _state(stack: "Stack") -> dict[str, object]:
    services: dict[str, object] = {
        kind: [{"address": child.address, "pid": child.pid} for child in children]
        for kind, children in stack.services.items()
    }
    tls = {"ca": str(stack.tls.ca), "cert": str(stack.tls.cert), "key": str(stack.tls.key)} if stack.tls else {}
    return {"address": stack.address, "s3_endpoint": stack.s3_endpoint, **tls, **services}


def _remove(state: Path, content: bytes) -> None:
    """Removes the file unless it has become another one, such as the state of a later stack; a link stays."""
    with suppress(OSError):
        if state.is_file() and state.read_bytes() == content:
            state.resolve().unlink()


def _instructions(stack: "Stack") -> str:
    from videoanalysis.stack.service_environment import BUCKET, CREDENTIALS, REGION

    access_key, secret = CREDENTIALS
    service = f"--address {stack.address}" + (f" --ca {stack.tls.ca}" if stack.tls else "")
    paragraphs = [
        f"Listening on {stack.address}, until Ctrl-C.",
        bundled_model.caveat(stack.model) or f"The model is {stack.model.model_id}.",
        "The sample clip inside the service:",
        f"  videoanalysis analyze sample://clip {service}",
        "A video of yours, through the S3 server of the stack:",
        f"  export AWS_ENDPOINT_URL={stack.s3_endpoint} AWS_DEFAULT_REGION={REGION}\n"
        f"  export AWS_ACCESS_KEY_ID={access_key} AWS_SECRET_ACCESS_KEY={secret}\n"
        f"  videoanalysis analyze VIDEO {service} --upload s3://{BUCKET}/videos/VIDEO",
    ]
    return "\n\n".join(paragraphs)
